"""The shards of an experiment, and what of them belongs to it.

A shard of a plan is its experiment's from its first batch to its last. One of an interactive group may be recorded by
one experiment after another, or by none for a while; its counters and gauges go on through all of them, so what belongs
to one experiment is the difference to what was there before.
"""

from __future__ import annotations

from typing import Any

from experiments.models import Batch, Experiment, Shard

# Gauges that are cumulative since the load's start.
_CUMULATIVE = (
    "cpu_ns",
    "wait_ns",
    "wall_ns",
    "others_ns",
    "stolen_ns",
    "app_ns",
    "slow_app_ns",
    "pool_waits",
)  # fmt: skip


def shards_of(experiment: Experiment) -> list[Shard]:
    """The experiment's shards, with worker, group and workload. Of an interactive one, these are not to be saved: what
    they have counted is what they have counted for this experiment."""
    found = Shard.objects.select_related("worker", "group__workload", "group__experiment").order_by("group", "index")
    if not experiment.interactive:
        return list(found.filter(group__experiment=experiment))
    recorded = Batch.objects.filter(experiment=experiment).values("shard")
    return [_as_recorded(experiment, shard) for shard in found.filter(id__in=recorded)]


def gauges_of(experiment: Experiment, shard: Shard) -> list[dict[str, int]]:
    """The gauges of the batches of the shard's present attempt, oldest first."""
    batches = Batch.objects.filter(experiment=experiment, shard=shard, attempt=shard.attempt).order_by("number")
    gauges = list(batches.values_list("number", "gauges"))
    if not gauges or not (before := _before(shard, gauges[0][0], "gauges")):
        return [gauge for _, gauge in gauges]
    return [{**gauge, **{name: gauge[name] - before[name] for name in _CUMULATIVE}} for _, gauge in gauges]


def _as_recorded(experiment: Experiment, shard: Shard) -> Shard:
    batches = Batch.objects.filter(shard=shard, attempt=shard.attempt)
    counters = list(batches.filter(experiment=experiment).order_by("number").values_list("number", "counters"))
    shard.totals, shard.planned = None, 0
    if counters:
        before = _before(shard, counters[0][0], "counters")
        totals = {name: value - before.get(name, 0) for name, value in counters[-1][1].items()}
        # Requests that were in flight at either end have their rows where they ended.
        shard.totals = {**totals, "planned": totals["rows"], "cut_short": False}
        shard.planned = totals["rows"]
        if batches.filter(number__gt=counters[-1][0]).exists():  # it lived on
            shard.status, shard.reason, shard.gone = Shard.Status.FINISHED, "", False
    return shard


def _before(shard: Shard, number: int, field: str) -> dict[str, Any]:
    """The counters or gauges with which the shard came to this batch; {} if it is the first."""
    found = Batch.objects.filter(shard=shard, attempt=shard.attempt, number=number - 1).values_list(field, flat=True)
    return next(iter(found), {})
