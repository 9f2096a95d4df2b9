"""One shard at a fixed rate: its lateness at 10,000/s, its memory with 10,000 clients, and its CPU at 100/s."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, below
from benchmarks.lines.open_model import poisson
from benchmarks.stack import MB, WORKER, NotMeasured, plan
from benchmarks.target import Target

RATE_RPS = 10_000.0


def _one_host(target: Target, seconds: float, rate_rps: float, clients: int) -> dict[str, object]:
    return plan([target.host], seconds, ticks=[rate_rps], clients_per_host=clients, arrival_pattern="expovariate")


@contextmanager
def _lateness(bench: Bench) -> Iterator[Measure]:
    with bench.target() as target, bench.stack() as stack:

        def measure() -> Sample:
            load = stack.load(poisson(target, bench.seconds(10, 4), RATE_RPS), target)
            if deviations := load.deviations():
                raise NotMeasured(f"{RATE_RPS:,.0f} requests/s were not kept: {deviations}")
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


@contextmanager
def _memory(bench: Bench) -> Iterator[Measure]:
    with bench.target() as target, bench.stack() as stack:
        workload = _one_host(target, bench.seconds(10, 5), rate_rps=2000, clients=10_000)

        def measure() -> Sample:
            resident, own = [], []

            def sample() -> None:
                (shard,) = stack.shard_processes(WORKER)
                memory = shard.memory_full_info()
                resident.append(memory.rss / MB)
                own.append(memory.pss / MB)

            stack.load(workload, target, sample)
            return Sample([max(resident)], {"PSS, MB": max(own)})

        yield measure


@contextmanager
def _cpu(bench: Bench) -> Iterator[Measure]:
    with bench.target() as target, bench.stack() as stack:
        workload = _one_host(target, bench.seconds(20, 8), rate_rps=100, clients=100)

        def measure() -> Sample:
            load = stack.load(workload, target)
            lateness = {f"lateness {name}, µs": load.lateness_s[f"{name}_s"] * 1e6 for name in ("p50", "p99")}
            return Sample([100 * load.shard_cpu_share], lateness)

        yield measure


LATENESS = Line(
    "lateness",
    (
        Figure("lateness at 10,000 requests/s: p50", "µs", below(100)),
        Figure("lateness at 10,000 requests/s: p99", "µs", below(1000), below(200)),
    ),
    _lateness,
)
MEMORY = Line(
    "memory", (Figure("memory of a shard with 10,000 clients, resident", "MB", below(150), below(80)),), _memory
)
CPU = Line("cpu-at-100", (Figure("CPU of a shard at 100 requests/s", "% of a core", below(6), below(3)),), _cpu)
