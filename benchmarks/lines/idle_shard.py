"""The CPU of a shard that has little to send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, below
from benchmarks.stack import plan

RATE_RPS = 100.0
CLIENTS = 100


@contextmanager
def _measuring(bench: Bench) -> Iterator[Measure]:
    with bench.target() as target, bench.stack() as stack:

        def measure() -> Sample:
            seconds = bench.seconds(20, 8)
            workload = plan(
                [target.host], seconds, ticks=[RATE_RPS], clients_per_host=CLIENTS, arrival_pattern="expovariate"
            )
            load = stack.load(workload, target)
            return Sample(
                [100 * load.shard_cpu_share],
                {
                    "lateness p50, µs": load.lateness_s["p50_s"] * 1e6,
                    "lateness p99, µs": load.lateness_s["p99_s"] * 1e6,
                },
            )

        yield measure


LINE = Line("cpu-at-100", (Figure("CPU of a shard at 100 requests/s", "% of a core", below(6), below(3)),), _measuring)
