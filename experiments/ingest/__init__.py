"""Ingest: from a trace batch on the wire to rows, per-second statistics and an acknowledgement.

`ingest` is the way in. received.py decodes and validates, store.py holds the one transaction, writers.py writes rows
as the database likes them best, aggregate.py makes the statistics, acknowledge.py tells the worker's agent.
"""

from experiments.ingest.entrance import ingest

__all__ = ["ingest"]
