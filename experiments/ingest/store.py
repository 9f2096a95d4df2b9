"""The one transaction of ingest: a batch, its traces and its statistics are stored together, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from experiments.analysis import client_counts
from experiments.ingest import aggregate
from experiments.ingest.received import ReceivedBatch
from experiments.ingest.writers import Traces
from experiments.models import Batch, Capture, ClientGroup, Experiment, Shard
from experiments.models.trace import trace_key
from loadgen.protocol.messages import LOST, BatchHeader


@dataclass(frozen=True)
class Stored:
    """What became of a batch: stored now (`new`), stored before (`known`), or of nothing that exists here.

    `experiment_id` is None, too, for a batch of an interactive group that nobody recorded.
    """

    experiment_id: str | None = None
    known: bool = False
    new: bool = False


def store(batch: ReceivedBatch) -> Stored:
    """Stores a batch unless it is there already. Database errors propagate, and nothing is stored then."""
    # What can be computed is computed before the transaction: SQLite has one lock for all writers.
    header = batch.header
    traces = Traces(batch) if header.experiment_id is not None and header.rows and header.traced else None
    seconds = dict(aggregate.seconds_of(batch))
    with transaction.atomic():
        return _store(batch, traces, seconds)


def _store(batch: ReceivedBatch, traces: Traces | None, seconds: aggregate.Seconds) -> Stored:
    header = batch.header
    # The lock makes ingest of one shard's batches one after the other, even when two processes serve its queue.
    # Without an order: the model's own joins the group, whose row would be locked against the group's other shards.
    shards = Shard.objects.select_for_update().order_by().filter(id=header.shard_id)
    group_id = next(iter(shards.values_list("group_id", flat=True)), None)
    # A group's name is like no other: a shard id that another database issued finds no match.
    if group_id != header.group_id:
        return Stored()
    group = ClientGroup.objects.select_related("workload").get(id=group_id)
    experiment_id = _experiment_of(group, header.experiment_id)
    if experiment_id is None and not group.interactive:
        return Stored()
    if Batch.objects.filter(shard=header.shard_id, attempt=header.attempt, number=header.number).exists():
        return Stored(experiment_id, known=True)
    Batch.objects.create(
        experiment_id=experiment_id,
        shard_id=header.shard_id,
        attempt=header.attempt,
        number=header.number,
        version=header.version,
        traced=header.traced,
        rows=header.rows,
        received=timezone.now(),
        counters=vars(header.counters),
        gauges=vars(header.gauges),
    )
    if traces is not None and experiment_id is not None:
        traces.write()
        _store_captures(batch, experiment_id)
    if seconds and experiment_id is not None:
        aggregate.add(seconds, header.shard_id, experiment_id, group.workload.index, traced=header.traced)
    if group.interactive and header.rows:
        _count_by_client(batch)
    if header.final:
        _close(header)
    return Stored(experiment_id, known=True, new=True)


def _experiment_of(group: ClientGroup, named: str | None) -> str | None:
    """The experiment that a batch which names this one belongs to; None: none.

    A shard that ended before it knew names none. What an interactive group did for an experiment that was deleted
    since, or for none, is counted by client, and its batch is there for those that follow.
    """
    if not group.interactive:
        return group.experiment_id if named in (None, group.experiment_id) else None
    return named if Experiment.objects.filter(id=named, interactive=True).exists() else None


def _count_by_client(batch: ReceivedBatch) -> None:
    """The lock on the shard's row makes this safe, as it does for the statistics."""
    shard = Shard.objects.filter(id=batch.header.shard_id)
    stored = shard.values_list("client_counts", flat=True).get()
    shard.update(client_counts=client_counts.added(stored, batch.columns["client"], batch.columns["outcome"]))


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
