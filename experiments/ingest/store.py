"""The one transaction of ingest: a batch, its traces and its statistics are stored together, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from experiments.ingest import aggregate
from experiments.ingest.received import ReceivedBatch
from experiments.ingest.writers import Traces
from experiments.models import Batch, Capture, ClientGroup, Shard
from experiments.models.trace import trace_key
from loadgen.messages import LOST, BatchHeader


@dataclass(frozen=True)
class Stored:
    """What became of a batch: stored now (`new`), stored before, or of no experiment that exists here."""

    experiment_id: str | None
    new: bool = False


def store(batch: ReceivedBatch) -> Stored:
    """Stores a batch unless it is there already. Database errors propagate, and nothing is stored then."""
    # What can be computed is computed before the transaction: SQLite has one lock for all writers.
    traces = Traces(batch) if batch.header.experiment_id is not None and batch.header.rows else None
    seconds = dict(aggregate.seconds_of(batch))
    with transaction.atomic():
        return _store(batch, traces, seconds)


def _store(batch: ReceivedBatch, traces: Traces | None, seconds: aggregate.Seconds) -> Stored:
    header = batch.header
    # The lock makes ingest of one shard's batches one after the other, even when two processes serve its queue.
    # Without an order: the model's own joins the group, whose row would be locked against the group's other shards.
    shards = Shard.objects.select_for_update().order_by().filter(id=header.shard_id)
    group_id = next(iter(shards.values_list("group_id", flat=True)), None)
    # The group's name holds the experiment's: a shard id that another database issued finds no match.
    if group_id != header.group_id:
        return Stored(experiment_id=None)
    groups = ClientGroup.objects.filter(id=group_id)
    experiment_id, workload = groups.values_list("experiment_id", "workload__index").get()
    if header.experiment_id not in (None, experiment_id):
        return Stored(experiment_id=None)
    if Batch.objects.filter(shard=header.shard_id, attempt=header.attempt, number=header.number).exists():
        return Stored(experiment_id)
    Batch.objects.create(
        shard_id=header.shard_id,
        attempt=header.attempt,
        number=header.number,
        rows=header.rows,
        received=timezone.now(),
        counters=vars(header.counters),
        gauges=vars(header.gauges),
    )
    if traces is not None:
        traces.write()
        _store_captures(batch, experiment_id)
    if seconds:
        aggregate.add(seconds, header.shard_id, experiment_id, workload)
    if header.final:
        _close(header)
    return Stored(experiment_id, new=True)


def _store_captures(batch: ReceivedBatch, experiment_id: str) -> None:
    header = batch.header
    Capture.objects.bulk_create(
        Capture(
            id=trace_key(header.shard_id, header.first_row + capture.row),
            experiment_id=experiment_id,
            request=capture.request,
            response=capture.response,
        )
        for capture in batch.captures
    )


def _close(header: BatchHeader) -> None:
    """The last batch of the present attempt brings the shard's totals; that of an earlier attempt changes nothing."""
    changes: dict[str, Any] = {
        "totals": vars(header.counters),
        "batches": header.number + 1,
        "end": header.end,
    }
    if header.end == LOST:
        changes["gone"] = True  # these are its last words: nothing of this attempt runs any more
    if reason := header.reason.replace("\0", ""):
        changes["reason"] = reason
    Shard.objects.filter(id=header.shard_id, attempt=header.attempt).update(**changes)
