"""The benchmark suite: Galileo against its peers on one machine (`make bench`, docs/benchmarks.md)."""
