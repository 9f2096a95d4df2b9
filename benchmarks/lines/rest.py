"""The cost of an idle worker: memory and CPU of all its processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, below
from benchmarks.stack import MB, BenchStack

_SETTLE_S = 10.0  # work done once after the start does not count


def _cpu_s(stack: BenchStack) -> float:
    times = [process.cpu_times() for process in stack.worker_processes()]
    return sum(one.user + one.system for one in times)


@contextmanager
def _measuring(bench: Bench) -> Iterator[Measure]:
    with bench.stack() as stack:
        time.sleep(_SETTLE_S)

        def measure() -> Sample:
            cpu_s, begun_s = _cpu_s(stack), time.monotonic()
            time.sleep(bench.seconds(30, 10))
            share = (_cpu_s(stack) - cpu_s) / (time.monotonic() - begun_s)
            memory = [process.memory_full_info() for process in stack.worker_processes()]
            return Sample(
                [sum(one.pss for one in memory) / MB, 100 * share],
                {"processes": len(memory), "resident, the greatest of them, MB": max(one.rss for one in memory) / MB},
            )

        yield measure


LINE = Line(
    "rest",
    (
        Figure("worker at rest, all its processes: PSS", "MB", below(160), below(100)),
        Figure("worker at rest, all its processes: CPU", "% of a core", below(1)),
    ),
    _measuring,
)
