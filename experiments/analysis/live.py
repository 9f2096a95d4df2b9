"""Live numbers, read from the per-second statistics; the cost does not depend on the rate (see also series.py)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db.models import F, Sum
from django.db.models.functions import Coalesce

from experiments.analysis.account import schedule_of
from experiments.analysis.histogram import Histogram
from experiments.models import Experiment, SecondStats
from loadgen.arrivals.schedule import Schedule
from loadgen.protocol.messages import OPEN, WorkloadSpec
from loadgen.protocol.outcomes import Outcome

NS = 1_000_000_000
# A row exists when its request is done and its batch is ingested: the last seconds are not complete yet.
SETTLE_S = 2
WINDOW_S = 3
INSTANT_NS = 1000


@dataclass(frozen=True)
class Progress:
    """A running experiment in numbers.

    Counts are since the start; `planned` is by the schedule up to now. In the closed model nothing is planned (None),
    and `clients` are active now. The achieved rate and the response times are those of the last whole seconds that
    have settled (None while there are none).
    """

    elapsed_s: float
    duration_s: float
    planned: int | None
    planned_rps: float | None
    clients: int | None
    achieved_rps: float | None
    response_p50_s: float | None
    response_p99_s: float | None
    rows: int
    sent: int
    completed: int
    errors: int
    dropped: int
    late: int


@dataclass(frozen=True)
class Asked:
    """What an experiment's workloads ask for: the rates of the open ones, the numbers of clients of the closed ones."""

    rates: list[Schedule]
    clients: list[Schedule]

    @property
    def duration_ns(self) -> int:
        return max((schedule.duration_ns for schedule in (*self.rates, *self.clients)), default=0)

    def arrivals(self, from_ns: int, to_ns: int) -> float | None:
        """Those planned between two times since the start; None where a workload of the closed model plans none."""
        return None if self.clients else _integral(self.rates, from_ns, to_ns)

    def active_clients(self, from_ns: int, to_ns: int) -> float | None:
        """The mean number of active clients of the closed model between two times; None without such a model."""
        return _integral(self.clients, from_ns, to_ns) * NS / (to_ns - from_ns) if self.clients else None


def asked_of(experiment: Experiment, indexes: Collection[int] | None = None) -> Asked:
    """Of all workloads, or of those of these indexes."""
    asked = Asked([], [])
    workloads = experiment.workloads.order_by("index")
    if indexes is not None:
        workloads = workloads.filter(index__in=indexes)
    for workload_spec in workloads.values_list("spec", flat=True):
        spec = WorkloadSpec(**workload_spec)
        (asked.rates if spec.model == OPEN else asked.clients).append(schedule_of(spec))
    return asked


def _integral(schedules: Iterable[Schedule], from_ns: int, to_ns: int) -> float:
    return sum(schedule.arrivals_before(to_ns) - schedule.arrivals_before(from_ns) for schedule in schedules)


def progress(experiment: Experiment, now_broker_ns: int | None = None) -> Progress:
    """How an experiment stands.

    Args:
        now_broker_ns: the time in the broker's clock; by default this machine's, which may differ by a little.
    """
    asked = asked_of(experiment)
    duration_ns = asked.duration_ns
    now_ns = time.time_ns() if now_broker_ns is None else now_broker_ns
    start_ns = experiment.start_broker_ns
    elapsed_ns = 0 if start_ns is None else min(max(now_ns - start_ns, 0), duration_ns)
    running = start_ns is not None and 0 <= now_ns - start_ns < duration_ns
    # Beyond the end nothing is asked for any more, and before the start nothing yet.
    instant = (elapsed_ns, elapsed_ns + INSTANT_NS) if running else (duration_ns, duration_ns + INSTANT_NS)
    planned, planned_now, clients = (
        asked.arrivals(0, elapsed_ns),
        asked.arrivals(*instant),
        asked.active_clients(*instant),
    )
    achieved_rps, response_time = (
        (None, Histogram()) if start_ns is None else _lately(experiment, start_ns, start_ns + duration_ns, now_ns)
    )
    rows = SecondStats.objects.filter(experiment=experiment)
    sums = rows.aggregate(**{name: Coalesce(Sum(name), 0) for name in ("arrivals", "sent", "completed")})
    unsent: Counter[str] = Counter()
    # Only seconds in which something was not sent hold such outcomes; in a good run there are none.
    for outcomes in rows.filter(arrivals__gt=F("sent")).values_list("outcomes", flat=True):
        unsent.update(outcomes)
    return Progress(
        elapsed_s=elapsed_ns / NS,
        duration_s=duration_ns / NS,
        planned=None if planned is None else round(planned),
        planned_rps=None if planned_now is None else planned_now * NS / INSTANT_NS,
        clients=None if clients is None else round(clients),
        achieved_rps=achieved_rps,
        response_p50_s=_seconds(response_time.quantile(0.5)),
        response_p99_s=_seconds(response_time.quantile(0.99)),
        rows=sums["arrivals"],
        sent=sums["sent"],
        completed=sums["completed"],
        errors=sums["sent"] - sums["completed"],
        dropped=unsent[str(Outcome.DROPPED.value)],
        late=unsent[str(Outcome.LATE.value)],
    )


def _lately(experiment: Experiment, start_ns: int, end_ns: int, now_ns: int) -> tuple[float | None, Histogram]:
    """Rate of requests sent and response times of the last WINDOW_S whole seconds that have settled."""
    until = min(now_ns // NS - SETTLE_S, -(-end_ns // NS))
    since = until - WINDOW_S
    covered_ns = min(until * NS, end_ns) - max(since * NS, start_ns)
    if covered_ns <= 0:
        return None, Histogram()
    rows = SecondStats.objects.filter(experiment=experiment, second__gte=since, second__lt=until)
    found = list(rows.values_list("sent", "response_time"))
    return sum(sent for sent, _ in found) * NS / covered_ns, Histogram.merged(times for _, times in found)


def _seconds(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / NS
