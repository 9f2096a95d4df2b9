"""How late requests leave at 10,000/s."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, below
from benchmarks.lines.open_model import poisson
from benchmarks.stack import NotMeasured

RATE_RPS = 10_000.0


@contextmanager
def _measuring(bench: Bench) -> Iterator[Measure]:
    with bench.target() as target, bench.stack() as stack:

        def measure() -> Sample:
            load = stack.load(poisson(target, bench.seconds(10, 4), RATE_RPS), target)
            if wrong := load.unkept():
                raise NotMeasured(f"{RATE_RPS:,.0f} requests/s were not kept: {wrong}")
            times = load.lateness_s
            return Sample(
                [times["p50_s"] * 1e6, times["p99_s"] * 1e6],
                {
                    "p99.9, µs": times["p99.9_s"] * 1e6,
                    "greatest, µs": times["max_s"] * 1e6,
                    "CPU of the shard, % of a core": 100 * load.shard_cpu_share,
                    "CPU, µs/request": load.cpu_us_per_request,
                    "last row stored after the end, s": load.last_row_after_s,
                },
            )

        yield measure


LINE = Line(
    "lateness",
    (
        Figure("lateness at 10,000 requests/s: p50", "µs", below(100)),
        Figure("lateness at 10,000 requests/s: p99", "µs", below(1000), below(200)),
    ),
    _measuring,
)
