"""Series for charts: the per-second statistics as points. Traces are never read.

A point covers a step of whole seconds of the broker's clock. The first step begins with the second of the experiment's
start, so that the points are the same for any requested range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.db.models import Max, QuerySet

from experiments.analysis.histogram import Histogram
from experiments.analysis.live import NS, PlannedLoad, planned_load
from experiments.analysis.shard_scope import shards_of
from experiments.models import Experiment, SecondStats
from loadgen.protocol.outcomes import account_line
from routing.errors import Code, InvalidInput

MAX_POINTS = 11_000  # the limit of Prometheus
# Reading a row takes about 80 µs; there is one for each second, shard and workload.
MAX_ROWS = 250_000
# Rows of one query, with some KB of histograms each: it reads as many seconds as the experiment has few shards.
_ROWS_PER_QUERY = 2000

_COUNTS = ("arrivals", "sent", "resent", "size")
_LINES = ("completed", "errors", "dropped", "late", "connect_failed", "cut")
_DURATIONS = {  # name of a point's columns → column of the statistics
    "response": "response_time", "service": "service_time", "lateness": "lateness",
    "connection_wait": "connection_wait",
}  # fmt: skip
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
_QUANTILE_COLUMNS = tuple(f"{name}_{label}_s" for name in _DURATIONS for label in _QUANTILES)
COLUMNS = (
    "second", "offset_s", "planned", "clients", "arrivals", "sent", *_LINES, "size", *_QUANTILE_COLUMNS, "resent",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """The requested part of an experiment. Times are in seconds since its start; None: its start, or its end."""

    from_s: float | None = None
    to_s: float | None = None
    step_s: int | None = None
    service: str | None = None
    workload: int | None = None
    host: str | None = None


class Series:
    """A series that can be read: the seconds [first, until) of the broker's clock since the epoch.

    `workloads` maps the index of each workload in it to its service. `hosts` holds the hosts that requests were sent
    to, in the points read so far.
    """

    def __init__(
        self, experiment: Experiment, workloads: dict[int, str], host: str | None, first: int, until: int, step_s: int
    ) -> None:
        self.first, self.until, self.step_s = first, until, step_s
        self.workloads = workloads
        self.hosts: set[str] = set()
        self._experiment = experiment
        self._host = host

    def points(self) -> Iterator[dict[str, Any]]:
        """A dict of COLUMNS for each step, including steps without arrivals.

        The first and the last step may be partial; `planned` counts the schedule's arrivals in the same time. It is
        None in the closed model, where `clients` is the mean number of active clients (None in the open model). For a
        single host, only `sent`, `completed` and `errors` are known, and all other columns are None.
        """
        load = planned_load(self._experiment, self.workloads)
        by_step = groupby(self._rows(), key=lambda row: (row["second"] - self.first) // self.step_s)
        filled, rows = next(by_step, (None, iter(())))
        for step, second in enumerate(range(self.first, self.until, self.step_s)):
            total = _Total(self._host)
            if step == filled:
                for row in rows:
                    self.hosts.update(row["hosts"])
                    total.add(row)
                filled, rows = next(by_step, (None, iter(())))
            yield self._point(second, min(second + self.step_s, self.until), total, load)

    def _rows(self) -> Iterator[dict[str, Any]]:
        found = _stored(self._experiment, self.workloads)
        columns = ("second", *_COUNTS, "outcomes", "hosts", *_DURATIONS.values())
        # A second has a row for each shard, and another one where tracing was paused.
        span_s = max(1, _ROWS_PER_QUERY // (2 * max(1, len(shards_of(self._experiment)))))
        for begin in range(self.first, self.until, span_s):
            end = min(begin + span_s, self.until)
            span = found.filter(second__gte=begin, second__lt=end).values(*columns)
            yield from sorted(span, key=lambda row: int(row["second"]))

    def _point(self, second: int, end: int, total: _Total, load: PlannedLoad) -> dict[str, Any]:
        start_ns = self._experiment.start_broker_ns or 0
        from_ns, to_ns = second * NS - start_ns, end * NS - start_ns
        known: dict[str, Any] = {"second": second, "offset_s": from_ns / NS, **total.values()}
        if self._host is None:
            known |= {"planned": load.arrivals(from_ns, to_ns), "clients": load.active_clients(from_ns, to_ns)}
        return {name: known.get(name) for name in COLUMNS}


class _Total:
    """The sum of the rows of one step."""

    def __init__(self, host: str | None) -> None:
        self._host = host
        self._counts: Counter[str] = Counter()
        self._durations = {name: Histogram() for name in _DURATIONS}

    def add(self, row: dict[str, Any]) -> None:
        if self._host is not None:
            self._counts.update(row["hosts"].get(self._host, {}))
            return
        self._counts.update({name: row[name] for name in _COUNTS})
        for outcome, count in row["outcomes"].items():
            self._counts[account_line(int(outcome))] += count
        for name, column in _DURATIONS.items():
            self._durations[name].merge(Histogram.from_bytes(row[column]))

    def values(self) -> dict[str, float | None]:
        if self._host is not None:
            sent, completed = self._counts["sent"], self._counts["completed"]
            return {"sent": sent, "completed": completed, "errors": sent - completed}
        values: dict[str, float | None] = {name: self._counts[name] for name in (*_COUNTS, *_LINES)}
        for name, histogram in self._durations.items():
            for label, q in _QUANTILES.items():
                value_ns = histogram.quantile(q)
                values[f"{name}_{label}_s"] = None if value_ns is None else value_ns / NS
        return values


def series_of(experiment: Experiment, part: Part, *, in_memory: bool = True) -> Series:
    """A part of an experiment's series.

    Args:
        in_memory: whether its points are all held in memory; else any number of them is accepted.

    Raises:
        InvalidInput: the part does not exist, or is too long; the path is the parameter's name.
    """
    workloads = _workloads(experiment, part)
    start_ns = experiment.start_broker_ns
    if start_ns is None:
        return Series(experiment, workloads, part.host, 0, 0, part.step_s or 1)
    if part.from_s is not None and part.to_s is not None and part.to_s <= part.from_s:
        raise InvalidInput.of("to", Code.CONFLICT, "must be later than from")
    zero = start_ns // NS
    first, until = zero, _until(experiment, zero, part.to_s)
    if part.from_s is not None:
        first = min(max(zero, (start_ns + round(part.from_s * NS)) // NS), until)
    step_s = part.step_s or max(1, -(-(until - first) // MAX_POINTS))
    first -= (first - zero) % step_s
    if in_memory and (until - first) / step_s > MAX_POINTS:
        message = f"{until - first:,} s in steps of {step_s} s exceed {MAX_POINTS:,} points: raise step, or read CSV"
        raise InvalidInput.of("step", Code.RANGE, message)
    rows = _stored(experiment, workloads).filter(second__gte=first, second__lt=until).count() if in_memory else 0
    if rows > MAX_ROWS:
        message = f"the range has {rows:,} rows of statistics, of at most {MAX_ROWS:,}: shorten it, or read CSV"
        raise InvalidInput.of("from", Code.RANGE, message)
    return Series(experiment, workloads, part.host, first, until, step_s)


def _workloads(experiment: Experiment, part: Part) -> dict[int, str]:
    """Index → service of the requested workloads."""
    found = dict(experiment.workloads.order_by("index").values_list("index", "service"))
    if part.workload is not None and part.workload not in found:
        raise InvalidInput.of("workload", Code.MISSING, f"must be one of {_listed(found)}, got {part.workload}")
    if part.service is not None and part.service not in found.values():
        known = _listed(set(found.values()))
        raise InvalidInput.of("service", Code.MISSING, f"must be one of {known}, got {part.service}")
    return {
        index: service
        for index, service in found.items()
        if part.workload in (None, index) and part.service in (None, service)
    }


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, sorted(names, key=str))) or "none"


def _until(experiment: Experiment, zero: int, to_s: float | None) -> int:
    """The first second after the series.

    The cut arrivals of a stopped plan lie after the experiment's end, and are included only if `to_s` says so.
    """
    last = _stored(experiment).filter(second__gte=zero).aggregate(last=Max("second"))["last"]
    known = zero if last is None else int(last) + 1
    if to_s is None:
        if experiment.ended_at is None or experiment.started_at is None:
            return known
        to_s = (experiment.ended_at - experiment.started_at).total_seconds()
    start_ns = experiment.start_broker_ns or 0
    return max(zero, min(known, -(-(start_ns + round(to_s * NS)) // NS)))


def _stored(experiment: Experiment, workloads: Iterable[int] | None = None) -> QuerySet[SecondStats]:
    # A shard that was stopped before it learned of the start has arrivals near second 0, which are before every range.
    found = SecondStats.objects.filter(experiment=experiment).order_by()
    return found if workloads is None else found.filter(workload__in=list(workloads))
