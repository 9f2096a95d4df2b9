"""The per-second statistics as a series of points, for charts: read from the aggregates alone, never from traces.

A point covers a step of whole seconds of the broker's clock. Steps begin with the second that the experiment's start
lies in, so that the same points come whatever range is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.db.models import Max, QuerySet

from experiments.analysis.histogram import Histogram
from experiments.analysis.live import NS, Asked, asked_of
from experiments.models import Experiment, SecondStats
from loadgen.protocol.outcomes import account_line

MAX_POINTS = 11_000  # as Prometheus has it
# A row takes some 80 µs; there is one for each second, shard and workload.
MAX_ROWS = 250_000
_SPAN_S = 300  # what is read at once

_COUNTS = ("arrivals", "sent", "size")
_LINES = ("completed", "errors", "dropped", "late", "connect_failed", "cut")
_DURATIONS = {
    "response": "response_time",
    "service": "service_time",
    "lateness": "lateness",
    "connection_wait": "connection_wait",
}
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
_QUANTILE_COLUMNS = tuple(f"{name}_{label}_s" for name in _DURATIONS for label in _QUANTILES)
COLUMNS = ("second", "offset_s", "planned", "clients", "arrivals", "sent", *_LINES, "size", *_QUANTILE_COLUMNS)


class RangeRefused(Exception):
    """There is no such part of the experiment, or it is too long; `field` names what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(f"{field}: {message}")


@dataclass(frozen=True)
class Part:
    """What of an experiment is asked for. Times are seconds since its start; None: from the start, to its end."""

    from_s: float | None = None
    to_s: float | None = None
    step_s: int | None = None
    service: str | None = None
    workload: int | None = None
    host: str | None = None


class Series:
    """A series that can be read: seconds of the broker's clock since the epoch, `until` being the first behind it.

    `workloads` maps the index of each one that is in it to its service. `hosts` are those that were sent to, as far as
    `points` has been read.
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
        """A dict of COLUMNS for each step, quiet ones included.

        The first and the last one may be partial: `planned` counts the schedule's arrivals of the same time. In the
        closed model it is None, and `clients` is the mean number of active ones (None in the open model). Of a host
        only what was sent and completed is known, and all else is None.
        """
        asked = asked_of(self._experiment, self.workloads)
        by_step = groupby(self._rows(), key=lambda row: (row["second"] - self.first) // self.step_s)
        filled, rows = next(by_step, (None, iter(())))
        for step, second in enumerate(range(self.first, self.until, self.step_s)):
            total = _Total(self._host)
            if step == filled:
                for row in rows:
                    self.hosts.update(row["hosts"])
                    total.add(row)
                filled, rows = next(by_step, (None, iter(())))
            yield self._point(second, min(second + self.step_s, self.until), total, asked)

    def _rows(self) -> Iterator[dict[str, Any]]:
        found = _stored(self._experiment, self.workloads)
        columns = ("second", "arrivals", "sent", "outcomes", "size", "hosts", *_DURATIONS.values())
        for begin in range(self.first, self.until, _SPAN_S):
            end = min(begin + _SPAN_S, self.until)
            span = found.filter(second__gte=begin, second__lt=end).values(*columns)
            yield from sorted(span, key=lambda row: int(row["second"]))

    def _point(self, second: int, end: int, total: _Total, asked: Asked) -> dict[str, Any]:
        start_ns = self._experiment.start_broker_ns or 0
        from_ns, to_ns = second * NS - start_ns, end * NS - start_ns
        known: dict[str, Any] = {"second": second, "offset_s": from_ns / NS, **total.values()}
        if self._host is None:
            known |= {"planned": asked.arrivals(from_ns, to_ns), "clients": asked.active_clients(from_ns, to_ns)}
        return {name: known.get(name) for name in COLUMNS}


class _Total:
    """Rows of one step, added up."""

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


def series_of(experiment: Experiment, part: Part) -> Series:
    """The part of an experiment's series.

    Raises:
        RangeRefused
    """
    workloads = _workloads(experiment, part)
    start_ns = experiment.start_broker_ns
    if start_ns is None:
        return Series(experiment, workloads, part.host, 0, 0, part.step_s or 1)
    if part.from_s is not None and part.to_s is not None and part.to_s <= part.from_s:
        raise RangeRefused("to", "it must be later than from")
    zero = start_ns // NS
    first, until = zero, _until(experiment, zero, part.to_s)
    if part.from_s is not None:
        first = min(max(zero, (start_ns + round(part.from_s * NS)) // NS), until)
    step_s = part.step_s or max(1, -(-(until - first) // MAX_POINTS))
    first -= (first - zero) % step_s
    if (until - first) / step_s > MAX_POINTS:
        raise RangeRefused("step", f"{until - first:,} s in steps of {step_s} s are more than {MAX_POINTS:,} points")
    rows = _stored(experiment, workloads).filter(second__gte=first, second__lt=until).count()
    if rows > MAX_ROWS:
        raise RangeRefused("from", f"{rows:,} rows of statistics lie in the range, and at most {MAX_ROWS:,} are read")
    return Series(experiment, workloads, part.host, first, until, step_s)


def _workloads(experiment: Experiment, part: Part) -> dict[int, str]:
    """Index → service of those that are asked for."""
    found = dict(experiment.workloads.order_by("index").values_list("index", "service"))
    if part.workload is not None and part.workload not in found:
        raise RangeRefused("workload", f"there is none of index {part.workload}; there is {_listed(found)}")
    if part.service is not None and part.service not in found.values():
        raise RangeRefused("service", f"there is no {part.service}; there is {_listed(set(found.values()))}")
    return {
        index: service
        for index, service in found.items()
        if part.workload in (None, index) and part.service in (None, service)
    }


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, sorted(names, key=str))) or "none"


def _until(experiment: Experiment, zero: int, to_s: float | None) -> int:
    """The second behind the last one. What was cut off the plan's rest lies behind its end: it must be asked for."""
    last = _stored(experiment).filter(second__gte=zero).aggregate(last=Max("second"))["last"]
    known = zero if last is None else int(last) + 1
    if to_s is None:
        if experiment.end is None or experiment.start is None:
            return known
        to_s = (experiment.end - experiment.start).total_seconds()
    start_ns = experiment.start_broker_ns or 0
    return max(zero, min(known, -(-(start_ns + round(to_s * NS)) // NS)))


def _stored(experiment: Experiment, workloads: Iterable[int] | None = None) -> QuerySet[SecondStats]:
    # A shard that was stopped before it learned of the start has its arrivals on an axis of its own, near zero: they
    # lie before every range.
    found = SecondStats.objects.filter(experiment=experiment).order_by()
    return found if workloads is None else found.filter(workload__in=list(workloads))
