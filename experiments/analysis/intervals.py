"""Planned and achieved arrivals and rates, for each interval of the plan."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

from django.db import models
from django.db.models import Count, F, QuerySet, Sum, Value

from experiments.analysis.shard_scope import schedule_of, shards_of
from experiments.models import Experiment, SecondStats, Trace, Workload
from loadgen.arrivals import distributions
from loadgen.arrivals.count_spread import explained_deviation
from loadgen.arrivals.pacer import PRERECORDED
from loadgen.arrivals.schedule import Schedule
from loadgen.protocol.enums import LoadModel
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.outcomes import FIRST_NOT_SENT

NS = 1_000_000_000
# Intervals of different lengths in one query.
_PER_QUERY = 100


def bounds_of(experiment: Experiment) -> list[tuple[int, int]]:
    """(start, end) of each interval of the plan, in ns since the start. Their lengths may differ."""
    configured = experiment.plan.get("configuration", {}).get("interval")
    if isinstance(configured, list):
        ends = accumulate(round(length_s * NS) for length_s in configured)
        return list(pairwise([0, *ends]))
    schedules = [schedule_of(WorkloadSpec(**workload.spec)) for workload in experiment.workloads.all()]
    duration_ns = max((schedule.duration_ns for schedule in schedules), default=0)
    interval_ns = round(configured * NS) if configured else max(1, duration_ns)
    return [(start, min(start + interval_ns, duration_ns)) for start in range(0, duration_ns, interval_ns)]


def intervals_of(experiment: Experiment) -> list[dict[str, Any]]:
    """For each workload and interval: arrivals planned, arrivals recorded, requests sent, and rates.

    `planned` is the schedule's integral (a Poisson process varies around it), `arrivals` counts by intended time, and
    `sent` by the time at which the request was written. A request that waited may be sent in a later interval;
    `sent_after` counts those after the end. `schedule_total` and `arrivals_total` are the sums of the intervals, and
    `explained_deviation` is how far the number of all planned arrivals may lie from the schedule's by chance
    (loadgen/arrivals/count_spread.py). Untraced arrivals are known by the second only: a second that lies in several
    intervals is divided in proportion to the schedule, and its requests count as sent when they were intended.
    The closed model and interactive experiments plan no arrivals (None): there, `clients` is the number of active
    clients; it is None in the open model.
    """
    if experiment.start_broker_ns is None:
        return []
    bounds = bounds_of(experiment)
    start_ns = experiment.start_broker_ns
    arrivals = _counted(experiment, start_ns, bounds, "intended_ns", {})
    sent = _counted(experiment, start_ns, bounds, "sent_ns", {"outcome__lt": FIRST_NOT_SENT, "sent_ns__isnull": False})
    workloads = list(experiment.workloads.order_by("index"))
    if bounds:
        _add_untraced(experiment, bounds, workloads, arrivals, sent)
    return [_workload(workload, bounds, arrivals, sent) for workload in workloads]


def _workload(
    workload: Workload,
    bounds: list[tuple[int, int]],
    arrivals: Counter[tuple[int, int]],
    sent: Counter[tuple[int, int]],
) -> dict[str, Any]:
    spec = WorkloadSpec(**workload.spec)
    schedule = schedule_of(spec)
    is_unplanned = spec.model != LoadModel.OPEN
    rows = []
    for number, (start_ns, end_ns) in enumerate(bounds):
        length_s = (end_ns - start_ns) / NS
        steps = schedule.arrivals_before(end_ns) - schedule.arrivals_before(start_ns)
        planned = None if is_unplanned else steps
        rows.append(
            {
                "start_s": start_ns / NS,
                "duration_s": length_s,
                "planned": planned,
                "planned_rps": None if planned is None else planned / length_s,
                "clients": round(steps / length_s) if is_unplanned else None,
                "arrivals": arrivals[workload.index, number],
                "sent": sent[workload.index, number],
                "achieved_rps": sent[workload.index, number] / length_s,
            }
        )
    return {
        "workload": workload.index,
        "service": workload.service,
        "model": spec.model,
        "arrival_process": None if is_unplanned else spec.arrival_process,
        "think_time": _think_time(spec) if spec.model == LoadModel.CLOSED else None,
        "intervals": rows,
        "schedule_total": None if is_unplanned else schedule.total,
        "arrivals_total": sum(row["arrivals"] for row in rows),
        "explained_deviation": None if is_unplanned else _explained(spec, schedule.total, workload.clients),
        "sent_after": sent[workload.index, len(bounds)],
    }


def _explained(spec: WorkloadSpec, planned: float, clients: int) -> float:
    if spec.arrival_process == PRERECORDED:
        return 1.0
    return explained_deviation(spec.arrival_process, spec.arrival_parameters, planned, clients)


def _think_time(spec: WorkloadSpec) -> str:
    name = spec.think_time
    return distributions.described(name, distributions.complete(name, spec.think_time_parameters))


def _counted(
    experiment: Experiment, zero_ns: int, bounds: list[tuple[int, int]], column: str, condition: dict[str, Any]
) -> Counter[tuple[int, int]]:
    """(workload, interval) → rows with a time in it; an additional last interval counts all rows after the end."""
    counts: Counter[tuple[int, int]] = Counter()
    if not bounds:
        return counts
    workloads = {shard.id: shard.group.workload.index for shard in shards_of(experiment)}
    rows = Trace.objects.filter(experiment=experiment, **condition).order_by()
    counted = _equal if _are_equal(bounds) else _unequal
    for shard_id, number, count in counted(rows, column, zero_ns, bounds):
        counts[workloads[shard_id], number] += count
    after = rows.filter(**{f"{column}__gte": zero_ns + bounds[-1][1]})
    for shard_id, count in after.values_list("shard_id").annotate(Count("id")):
        counts[workloads[shard_id], len(bounds)] += count
    return counts


def _add_untraced(
    experiment: Experiment,
    bounds: list[tuple[int, int]],
    workloads: list[Workload],
    arrivals: Counter[tuple[int, int]],
    sent: Counter[tuple[int, int]],
) -> None:
    """Adds the untraced arrivals of each second to the intervals that it lies in."""
    assert experiment.start_broker_ns is not None  # or there were no statistics
    schedules = {workload.index: schedule_of(WorkloadSpec(**workload.spec)) for workload in workloads}
    first = experiment.start_broker_ns // NS
    seconds = SecondStats.objects.filter(experiment=experiment, traced=False, second__gte=first).order_by()
    for index, second, *counts in seconds.values_list("workload", "second").annotate(Sum("arrivals"), Sum("sent")):
        pieces = _pieces(second * NS - experiment.start_broker_ns, bounds, schedules[index])
        for counter, count in zip((arrivals, sent), counts, strict=True):
            for number, part in _divided(count, pieces):
                counter[index, number] += part


def _pieces(start_ns: int, bounds: list[tuple[int, int]], schedule: Schedule) -> list[tuple[int, float]]:
    """(interval, weight) of the intervals that a second lies in, by the schedule, or by time if it plans nothing."""
    end_ns = start_ns + NS
    if start_ns >= bounds[-1][1]:
        return [(len(bounds), 1.0)]
    first = max(0, bisect_right(bounds, start_ns, key=lambda bound: bound[0]) - 1)
    pieces = []
    for number in range(first, len(bounds)):
        from_ns, to_ns = max(start_ns, bounds[number][0]), min(end_ns, bounds[number][1])
        if from_ns >= end_ns:
            break
        pieces.append((number, from_ns, to_ns))
    planned = [schedule.arrivals_before(to_ns) - schedule.arrivals_before(from_ns) for _, from_ns, to_ns in pieces]
    lengths = [float(to_ns - from_ns) for _, from_ns, to_ns in pieces]
    return [
        (number, weight) for (number, _, _), weight in zip(pieces, planned if any(planned) else lengths, strict=True)
    ]


def _divided(count: int, pieces: list[tuple[int, float]]) -> Iterator[tuple[int, int]]:
    """(interval, part): a count divided by weight into whole numbers that add up to it."""
    total, done, upto = sum(weight for _, weight in pieces), 0, 0.0
    for position, (number, weight) in enumerate(pieces, 1):
        upto += weight
        reached = count if position == len(pieces) else round(count * upto / total)
        yield number, reached - done
        done = reached


def _are_equal(bounds: list[tuple[int, int]]) -> bool:
    """Whether all intervals have the same length; the last one may be shorter."""
    *before_ns, last_ns = (end_ns - start_ns for start_ns, end_ns in bounds)
    return not before_ns or (last_ns <= before_ns[0] == max(before_ns) == min(before_ns))


def _equal(
    rows: QuerySet[Trace], column: str, zero_ns: int, bounds: list[tuple[int, int]]
) -> Iterator[tuple[int, int, int]]:
    """(shard, interval, rows), for intervals of equal lengths."""
    interval_ns = bounds[0][1] - bounds[0][0]
    since = F(column) - zero_ns
    # A modulo instead of a division, which the databases round differently.
    start = models.ExpressionWrapper(since - since % interval_ns, output_field=models.BigIntegerField())
    within = rows.filter(**{f"{column}__gte": zero_ns, f"{column}__lt": zero_ns + bounds[-1][1]})
    within = within.annotate(interval_start=start)
    for shard_id, start_ns, count in within.values_list("shard_id", "interval_start").annotate(Count("id")):
        yield shard_id, start_ns // interval_ns, count


def _unequal(
    rows: QuerySet[Trace], column: str, zero_ns: int, bounds: list[tuple[int, int]]
) -> Iterator[tuple[int, int, int]]:
    """(shard, interval, rows), for intervals of any lengths."""
    for first in range(0, len(bounds), _PER_QUERY):
        part = bounds[first : first + _PER_QUERY]
        ends = [
            models.When(**{f"{column}__lt": zero_ns + end_ns}, then=Value(index))
            for index, (_, end_ns) in enumerate(part)
        ]
        within = rows.filter(**{f"{column}__gte": zero_ns + part[0][0], f"{column}__lt": zero_ns + part[-1][1]})
        numbered = within.annotate(interval=models.Case(*ends, output_field=models.IntegerField()))
        for shard_id, index, count in numbered.values_list("shard_id", "interval").annotate(Count("id")):
            yield shard_id, first + index, count
