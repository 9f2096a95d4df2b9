"""The one transaction of ingest: a batch, its traces and its statistics are stored together, or not at all."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from django.db import transaction
from django.utils import timezone
from numpy.typing import NDArray

from experiments.ingest import aggregate, writers
from experiments.ingest.received import ReceivedBatch
from experiments.models import Batch, ClientGroup, Shard
from experiments.models.trace import trace_key
from loadgen.batch import NO_HOST, NO_TIME
from loadgen.messages import LOST, BatchHeader


@dataclass(frozen=True)
class Stored:
    """What became of a batch: stored now (`new`), stored before, or of no experiment that exists here."""

    experiment_id: str | None
    new: bool = False


def store(batch: ReceivedBatch) -> Stored:
    """Stores a batch unless it is there already. Database errors propagate, and nothing is stored then."""
    # What can be computed is computed before the transaction: SQLite has one lock for all writers.
    traces = trace_columns(batch) if batch.header.experiment_id is not None else None
    seconds = dict(aggregate.seconds_of(batch))
    with transaction.atomic():
        return _store(batch.header, traces, seconds)


def _store(header: BatchHeader, traces: writers.TraceColumns | None, seconds: aggregate.Seconds) -> Stored:
    # The lock makes ingest of one shard's batches one after the other, even when two processes serve its queue.
    shard = Shard.objects.select_for_update().filter(id=header.shard_id).first()
    # The group's name holds the experiment's: a shard id that another database issued finds no match.
    if shard is None or shard.group_id != header.group_id:
        return Stored(experiment_id=None)
    group = ClientGroup.objects.select_related("workload").get(id=shard.group_id)
    if header.experiment_id not in (None, group.experiment_id):
        return Stored(experiment_id=None)
    if Batch.objects.filter(shard=shard, attempt=header.attempt, number=header.number).exists():
        return Stored(group.experiment_id)
    Batch.objects.create(
        shard=shard,
        attempt=header.attempt,
        number=header.number,
        rows=header.rows,
        received=timezone.now(),
        counters=dataclasses.asdict(header.counters),
        gauges=dataclasses.asdict(header.gauges),
    )
    if header.rows and traces is not None:
        writers.write_traces(traces)
    if seconds:
        aggregate.add(seconds, shard.id, group.experiment_id, group.workload.index)
    if header.final:
        _close(shard, header)
    return Stored(group.experiment_id, new=True)


def trace_columns(batch: ReceivedBatch) -> writers.TraceColumns:
    """The batch as the columns of Trace, in the order of writers.FIELDS."""
    header, columns = batch.header, batch.columns
    first = trace_key(header.shard_id, header.first_row)
    hosts = header.hosts
    named = [hosts[index] if index != NO_HOST else "" for index in columns["host"].tolist()]
    return [
        range(first, first + header.rows),
        repeat(header.experiment_id, header.rows),
        repeat(header.shard_id, header.rows),
        columns["client"].tolist(),
        columns["sequence"].tolist(),
        batch.absolute_ns("intended_ns").tolist(),
        *(_with_none(batch.absolute_ns(name), NO_TIME) for name in ("dispatched_ns", "sent_ns", "done_ns")),
        columns["outcome"].tolist(),
        _with_none(columns["status"], 0),
        named,
        columns["size"].tolist(),
        columns["routing_version"].tolist(),
    ]


def _with_none(values: NDArray[np.int64], missing: int) -> list[Any]:
    """The values as a list, with None for `missing`; most columns have none, and stay without an object array."""
    gaps = np.flatnonzero(values == missing)
    listed: list[Any] = values.tolist()
    for index in gaps.tolist():
        listed[index] = None
    return listed


def _close(shard: Shard, header: BatchHeader) -> None:
    """The last batch of the present attempt brings the shard's totals; that of an earlier attempt changes nothing."""
    changes: dict[str, Any] = {
        "totals": dataclasses.asdict(header.counters),
        "batches": header.number + 1,
        "end": header.end,
    }
    if header.end == LOST:
        changes["gone"] = True  # these are its last words: nothing of this attempt runs any more
    if reason := header.reason.replace("\0", ""):
        changes["reason"] = reason
    Shard.objects.filter(id=shard.id, attempt=header.attempt).update(**changes)
