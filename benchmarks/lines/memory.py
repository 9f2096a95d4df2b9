"""The memory of a shard's process with 10,000 clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, below
from benchmarks.stack import MB, WORKER, plan

CLIENTS = 10_000
RATE_RPS = 2_000.0


@contextmanager
def _measuring(bench: Bench) -> Iterator[Measure]:
    seconds = bench.seconds(10, 5)
    with bench.target() as target, bench.stack() as stack:
        workload = plan(
            [target.host], seconds, ticks=[RATE_RPS], clients_per_host=CLIENTS, arrival_pattern="expovariate"
        )

        def measure() -> Sample:
            resident, own = [], []

            def look() -> None:
                (shard,) = stack.shard_processes(WORKER)
                memory = shard.memory_full_info()
                resident.append(memory.rss / MB)
                own.append(memory.pss / MB)

            stack.load(workload, target, look)
            return Sample([max(resident)], {"PSS, MB": max(own)})

        yield measure


LINE = Line(
    "memory",
    (Figure("memory of a shard with 10,000 clients, resident", "MB", below(150), below(80)),),
    _measuring,
)
