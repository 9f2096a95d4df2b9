"""Stores a batch, its traces and its statistics in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from experiments.analysis.live import added_client_counts
from experiments.ingest import aggregate
from experiments.ingest.received import ReceivedBatch
from experiments.ingest.writers import Traces
from experiments.models import Batch, Capture, ClientGroup, Experiment, Shard
from experiments.models.trace import trace_key
from loadgen.protocol.enums import ShardState
from loadgen.protocol.messages import BatchHeader


@dataclass(frozen=True)
class Stored:
    """The result of `store`: whether the batch was stored now (`new`), and whether it belongs to this database.

    `experiment_id` is also None for a batch of an interactive group that no experiment recorded.
    """

    experiment_id: str | None = None
    known: bool = False
    new: bool = False


def store(batch: ReceivedBatch) -> Stored:
    """Stores a batch unless it was stored before. After a database error, which propagates, nothing is stored."""
    # Computed before the transaction, because SQLite has one lock for all writers.
    header = batch.header
    traces = Traces(batch) if header.experiment_id is not None and header.rows and header.traced else None
    seconds = dict(aggregate.seconds_of(batch))
    with transaction.atomic():
        return _store(batch, traces, seconds)


def _store(batch: ReceivedBatch, traces: Traces | None, seconds: aggregate.Seconds) -> Stored:
    header = batch.header
    # The lock serialises the batches of a shard, even when two processes serve its queue. The query has no order: the
    # model's default order joins the group, whose row would be locked for the group's other shards, too.
    shards = Shard.objects.select_for_update().order_by().filter(id=header.shard_id)
    group_id = next(iter(shards.values_list("group_id", flat=True)), None)
    # Group ids are unique over all databases, so that a shard id of another database does not match.
    if group_id != header.group_id:
        return Stored()
    group = ClientGroup.objects.select_related("workload", "interactive_part").get(id=group_id)
    experiment_id = _experiment_of(group, header.experiment_id)
    if experiment_id is None and group.interactive is None:
        return Stored()
    if Batch.objects.filter(shard=header.shard_id, attempt=header.attempt, number=header.number).exists():
        return Stored(experiment_id, known=True)
    Batch.objects.create(
        experiment_id=experiment_id,
        **{name: getattr(header, name) for name in ("shard_id", "attempt", "number", "version", "traced", "rows")},
        received_at=timezone.now(),
        counters=vars(header.counters),
        gauges=vars(header.gauges),
    )
    if traces is not None and experiment_id is not None:
        traces.write()
        _store_captures(batch, experiment_id)
    if seconds and experiment_id is not None:
        aggregate.add(seconds, header.shard_id, experiment_id, group.workload.index, traced=header.traced)
    if group.interactive is not None and header.rows:
        _add_client_counts(batch)
    if header.final:
        _store_totals(header)
    return Stored(experiment_id, known=True, new=True)


def _experiment_of(group: ClientGroup, named: str | None) -> str | None:
    """The experiment of a batch whose header has this experiment id; None: it has none.

    A shard that ended before it knew its experiment sends None. Batches that an interactive group sent for a deleted
    experiment, or for none, count for its clients, and are stored because later experiments subtract their counters.
    """
    if group.interactive is None:
        return group.experiment_id if named in (None, group.experiment_id) else None
    return named if Experiment.objects.filter(id=named, interactive=True).exists() else None


def _add_client_counts(batch: ReceivedBatch) -> None:
    """Adds the requests and failures of each client. Needs the lock on the shard's row."""
    shard = Shard.objects.filter(id=batch.header.shard_id)
    stored = shard.values_list("client_counts", flat=True).get()
    shard.update(client_counts=added_client_counts(stored, batch.rows.client, batch.rows.outcome))


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


def _store_totals(header: BatchHeader) -> None:
    """Stores the totals of the shard's last batch, unless that belongs to an earlier attempt."""
    changes: dict[str, Any] = {"totals": vars(header.counters), "batches": header.number + 1, "final_state": header.end}
    if header.end == ShardState.LOST:
        changes["process_ended"] = True  # the worker itself reported it: this attempt is no longer running
    if reason := header.reason.replace("\0", ""):
        changes["reason"] = reason
    Shard.objects.filter(id=header.shard_id, attempt=header.attempt).update(**changes)


def mark_summary_stale(experiment_id: str) -> None:
    """Notes that a batch was stored after the experiment's end. To be called after the commit of the batch.

    Before the end there is nothing to note, because the first summary will include the batch.
    """
    ended = Experiment.objects.ended().filter(pk=experiment_id)
    if ended.exists():  # rarely true; saves a write for all other batches
        # Unconditional: a process that has not seen this batch may be about to clear the flag.
        ended.update(summary_stale=True)
