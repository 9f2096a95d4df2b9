"""The shards of an experiment: their planned arrivals, their seconds, and their counters and gauges that belong to it.

A shard of a plan belongs to its experiment from its first batch to its last. A shard of an interactive group may be
recorded by several experiments in turn, and by none for a while; its counters and gauges run through all of them, so an
experiment's part of them is their difference to the values before its first batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from experiments.models import Batch, Experiment, SecondStats, Shard, ShardStatus
from loadgen.arrivals.pacer import Pacer, build_pacer
from loadgen.arrivals.schedule import Schedule
from loadgen.protocol.enums import LoadModel
from loadgen.protocol.messages import WorkloadSpec

NS = 1_000_000_000
_SECONDS_PER_QUERY = 1000  # of one shard, with some KB of histograms each
# Gauges that are cumulative since the load's start.
_CUMULATIVE = ("cpu_ns", "wait_ns", "wall_ns", "others_ns", "stolen_ns", "app_ns", "slow_app_ns", "pool_waits")


def schedule_of(spec: WorkloadSpec) -> Schedule:
    """The schedule that the engine runs for a workload."""
    return Schedule([(round(duration_s * NS), rate_rps) for duration_s, rate_rps in spec.schedule])


def is_unplanned(shard: Shard) -> bool:
    """Whether no arrivals are planned for a shard, because they follow from responses or from commands."""
    return bool(shard.group.workload.spec["model"] != LoadModel.OPEN)


def pacer_of(shard: Shard) -> Pacer:
    """The arrivals of a shard's clients, computed from the plan in the same way as the shard computes them."""
    spec = WorkloadSpec(**shard.group.workload.spec)
    return build_pacer(
        spec.arrival_process,
        schedule_of(spec),
        [client for bounds in shard.clients for client in range(*bounds)],
        shard.group.total_clients,
        shard.group.random_seed,
        spec.index,
        spec.arrival_parameters,
    )


def planned_of(shard: Shard) -> int:
    """The number of arrivals planned for a shard. Takes about 0.5 µs for each arrival of a random process."""
    return pacer_of(shard).count()


def shards_of(experiment: Experiment) -> list[Shard]:
    """The experiment's shards, with worker, group and workload.

    Shards of an interactive experiment must not be saved: their counts are reduced to this experiment's part.
    """
    found = Shard.objects.select_related("worker", "group__workload", "group__experiment").order_by("group", "index")
    if not experiment.interactive:
        return list(found.filter(group__experiment=experiment))
    recorded = Batch.objects.filter(experiment=experiment).values("shard")
    return [_reduced_to(experiment, shard) for shard in found.filter(id__in=recorded)]


def seconds_of(experiment: Experiment, *columns: str, **wanted: Any) -> Iterator[tuple[Any, ...]]:
    """The experiment's statistics per second, in no particular order, as the values of these columns.

    Each query reads some seconds of one shard by the index, so that any number of seconds takes a bounded amount of
    memory: the driver of some databases holds all rows of a query.

    Args:
        wanted: the values that the rows must have.
    """
    rows = SecondStats.objects.filter(experiment=experiment).order_by()
    shards = rows.order_by("shard_id").values_list("shard_id", flat=True)
    shard = shards.first()
    while shard is not None:
        of_shard = rows.filter(shard=shard, **wanted)
        seconds = of_shard.order_by("second").values_list("second", flat=True)
        second = seconds.first()
        while second is not None:
            until = second + _SECONDS_PER_QUERY
            yield from of_shard.filter(second__gte=second, second__lt=until).values_list(*columns)
            second = seconds.filter(second__gte=until).first()
        shard = shards.filter(shard_id__gt=shard).first()


def gauges_of(experiment: Experiment, shard: Shard) -> list[dict[str, int]]:
    """The gauges of the batches of the shard's present attempt, oldest first."""
    batches = Batch.objects.filter(experiment=experiment, shard=shard, attempt=shard.attempt).order_by("number")
    gauges = list(batches.values_list("number", "gauges"))
    if not gauges or not (before := _before(shard, gauges[0][0], "gauges")):
        return [gauge for _, gauge in gauges]
    return [{**gauge, **{name: gauge[name] - before[name] for name in _CUMULATIVE}} for _, gauge in gauges]


def _reduced_to(experiment: Experiment, shard: Shard) -> Shard:
    """The shard of an interactive group with only the counts that belong to the experiment."""
    batches = Batch.objects.filter(shard=shard, attempt=shard.attempt)
    counters = list(batches.filter(experiment=experiment).order_by("number").values_list("number", "counters"))
    shard.totals, shard.planned = None, 0
    if counters:
        before = _before(shard, counters[0][0], "counters")
        totals = {name: value - before.get(name, 0) for name, value in counters[-1][1].items()}
        # Requests that were in flight at either end have their rows where they ended.
        shard.totals = {**totals, "planned": totals["rows"], "cut_short": False}
        shard.planned = totals["rows"]
        if batches.filter(number__gt=counters[-1][0]).exists():  # it ran on after the experiment's last batch
            shard.status, shard.reason, shard.process_ended = ShardStatus.FINISHED, "", False
    return shard


def _before(shard: Shard, number: int, field: str) -> dict[str, Any]:
    """The counters or gauges of the batch before this one; {} if this is the shard's first."""
    found = Batch.objects.filter(shard=shard, attempt=shard.attempt, number=number - 1).values_list(field, flat=True)
    return next(iter(found), {})
