"""The highest rate that 1,000 Poisson clients keep over three weighted hosts, against Locust's highest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import peers
from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, at_least
from benchmarks.search import highest
from benchmarks.stack import BenchStack, Load, NotMeasured, plan
from benchmarks.target import Target

CLIENTS = 1000
WEIGHTS = [1.0, 2.0, 3.0]
MAX_LATENESS_P99_S = 0.005
# A tenth of a second's: when the machine stands still for 15 ms, the default of 1,000 is reached.
MAX_IN_FLIGHT = 10_000
_FIRST_RATE_RPS = 20_000.0
_LOCUST_USERS = (20, 50, 100)


def poisson(target: Target, seconds: float, rate_rps: float) -> dict[str, object]:
    """The plan of this line at one rate."""
    return plan(
        target.hosts,
        seconds,
        weights=WEIGHTS,
        ticks=[rate_rps],
        clients_per_host=CLIENTS,
        arrival_pattern="expovariate",
        max_in_flight=MAX_IN_FLIGHT,
    )


class Search:
    """Our highest rate; the rounds after the first begin at what the one before found."""

    def __init__(self, bench: Bench, stack: BenchStack, target: Target) -> None:
        self._bench = bench
        self._stack = stack
        self._target = target
        self._first_rps = _FIRST_RATE_RPS
        self._best: Load | None = None

    def run(self) -> tuple[float, Load]:
        """The rate of the plan, and the load that kept it.

        Raises:
            NotMeasured: not even a very low rate was kept.
        """
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
        wrong = load.unkept()
        kept = not wrong and lateness_p99_s < MAX_LATENESS_P99_S
        self._bench.say(
            f"  {rate_rps:,.0f} requests/s {'kept' if kept else 'not kept'}: lateness p99"
            f" {lateness_p99_s * 1e3:.2f} ms{', ' + wrong if wrong else ''};"
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
            users[:] = [best]  # the rounds after the first need not look again
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
