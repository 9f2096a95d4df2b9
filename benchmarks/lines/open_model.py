"""The highest rate that 1,000 Poisson clients keep over three weighted hosts, against Locust's highest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import peers
from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, at_least
from benchmarks.stack import BenchStack, Load, NotMeasured, plan
from benchmarks.target import Target

CLIENTS = 1000
WEIGHTS = [1.0, 2.0, 3.0]
MAX_LATENESS_P99_S = 0.005
# The arrivals of a tenth of a second: the default of 1,000 is reached when the machine stops for 15 ms.
MAX_IN_FLIGHT = 10_000
_FIRST_RATE_RPS = 20_000.0
_LOCUST_USERS = (20, 50, 100)
_GROWTH = 1.5
_CLOSE_ENOUGH = 1.04
_FAILURES_THAT_COUNT = 3


def poisson(target: Target, seconds: float, rate_rps: float) -> dict[str, object]:
    """Returns the plan of this line at one rate."""
    return plan(
        target.hosts,
        seconds,
        weights=WEIGHTS,
        ticks=[rate_rps],
        clients_per_host=CLIENTS,
        arrival_pattern="expovariate",
        max_in_flight=MAX_IN_FLIGHT,
    )


def highest(keeps: Callable[[float], bool], first: float, tries: int) -> float:
    """Returns the highest rate found for which `keeps` is true; 0 if there was none.

    Raises or lowers `first` by half until one rate was kept and one was not, then halves the distance on a logarithmic
    scale until the two are within 4 %, with at most `tries` calls. A rate counts as not kept after three failures in a
    row: a disturbance of a moment may cost accuracy, but the result is a kept rate.
    """
    kept, unkept = 0.0, float("inf")
    rate = first
    failures = 0
    for _ in range(tries):
        if keeps(rate):
            kept, failures = rate, 0
        elif failures < _FAILURES_THAT_COUNT - 1:
            failures += 1
            continue
        else:
            unkept, failures = rate, 0
        if unkept <= kept * _CLOSE_ENOUGH:
            break
        if kept == 0:
            rate = unkept / _GROWTH
        elif unkept == float("inf"):
            rate = kept * _GROWTH
        else:
            rate = (kept * unkept) ** 0.5
    return kept


class Search:
    """Searches Galileo's highest rate; each round starts with the result of the one before."""

    def __init__(self, bench: Bench, stack: BenchStack, target: Target) -> None:
        self._bench = bench
        self._stack = stack
        self._target = target
        self._first_rps = _FIRST_RATE_RPS
        self._best: Load | None = None

    def run(self) -> tuple[float, Load]:
        """Returns the highest rate that was kept, and its load. Raises NotMeasured if none was kept."""
        self._best = None
        tries = 8 if self._bench.quick else 24
        rate_rps = highest(self._keeps, self._first_rps, tries)
        if self._best is None:
            raise NotMeasured(f"no rate was kept in {tries} tries")
        self._first_rps = rate_rps
        return rate_rps, self._best

    def _keeps(self, rate_rps: float) -> bool:
        load = self._stack.load(poisson(self._target, self._bench.seconds(6, 3), rate_rps), self._target)
        lateness_p99_s = load.lateness_s["p99_s"]
        deviations = load.deviations()
        kept = not deviations and lateness_p99_s < MAX_LATENESS_P99_S
        self._bench.say(
            f"  {rate_rps:,.0f} requests/s {'kept' if kept else 'not kept'}: lateness p99"
            f" {lateness_p99_s * 1e3:.2f} ms{', ' + deviations if deviations else ''};"
            f" last row stored {load.last_row_after_s:.1f} s after the end"
        )
        if kept and (self._best is None or load.completed_rps > self._best.completed_rps):
            self._best = load
        return kept


@contextmanager
def _measuring(bench: Bench) -> Iterator[Measure]:
    users = list(_LOCUST_USERS)
    with bench.target() as target, bench.stack() as stack:
        search = Search(bench, stack, target)

        def measure() -> Sample:
            rates = {count: peers.locust(bench.cores, target.hosts, count, bench.seconds(8, 4)) for count in users}
            best = max(rates, key=lambda count: rates[count])
            users[:] = [best]  # the later rounds measure this number only
            ours_rps, load = search.run()
            return Sample(
                [ours_rps / rates[best]],
                {
                    "ours, requests/s": ours_rps,
                    "lateness p99 there, ms": load.lateness_s["p99_s"] * 1e3,
                    "CPU of the shard there, % of a core": 100 * load.shard_cpu_share,
                    "CPU there, µs/request": load.cpu_us_per_request,
                    "last row stored after the end, s": load.last_row_after_s,
                    "Locust, requests/s": rates[best],
                    "Locust, users": best,
                },
            )

        yield measure


LINE = Line(
    "open",
    (
        Figure(
            "open model, 1,000 Poisson clients, 3 weighted hosts, tracing on: highest rate with nothing dropped or "
            "late and lateness p99 < 5 ms, against Locust FastHttpUser's highest",
            "×",
            at_least(6),
            at_least(10),
        ),
    ),
    _measuring,
)
