"""Ingest: stores trace batches as rows and per-second statistics, and acknowledges them."""
