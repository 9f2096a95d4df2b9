"""Shards: created at placement, followed by their status, lease and worker, and ordered again when they are lost."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from experiments.models import (
    REPORTED_ENDS,
    ClientGroup,
    Experiment,
    ExperimentStatus,
    Shard,
    ShardStatus,
    Worker,
    WorkerStatus,
    Workload,
)
from experiments.services import apps, desired, events, placement, sending
from experiments.services.broker import as_text, step_ns
from experiments.services.workers import OVERDUE_NS, is_missed_for_good, note_missed
from experiments.wall_clock import wall_clock
from loadgen.protocol import keys, messages
from loadgen.protocol.codec import MessageError, from_json
from loadgen.protocol.enums import ENDS, OnWorkerLoss, ShardState
from routing.redis import redis_client

log = logging.getLogger(__name__)

# A dispatched shard without a status after this time is ordered again under the next attempt.
SILENT_S = 10
# Each attempt numbers its rows from a base of its own; there is room for so many (loadgen.shard.sealer, models.trace).
MAX_ATTEMPTS = 16
MAX_REASON = 4000


def place_group(experiment: Experiment, workload: Workload, later: Sequence[Workload] = ()) -> None:
    """Makes a workload's group with its shards and clients, and orders the shards; leaves slots for `later` workloads.

    Raises:
        NoMatchingWorkers, NoFreeSlot, AppMissing
    """
    apps.provide([workload])
    shares = placement.shares_of(workload, workload.clients, later)
    with transaction.atomic():
        # A concurrent cancel waits for the row, and then finds the group to stop.
        starting = Experiment.objects.select_for_update().filter(id=experiment.id, status=ExperimentStatus.STARTING)
        if not starting.exists():
            return
        group = ClientGroup.objects.create(
            id=f"{experiment.id}.{workload.index}",
            experiment=experiment,
            workload=workload,
            total_clients=workload.clients,
            on_worker_loss=experiment.plan["configuration"].get("on_worker_loss", OnWorkerLoss.CONTINUE),
            created_at=timezone.now(),
        )
        desired.project_after_commit(group.id)
        add_shards(group, shares)


def add_shards(group: ClientGroup, shares: list[placement.Share], first_client: int = 0) -> None:
    """Makes and orders a group's shards, within the caller's transaction; clients are counted from `first_client`."""
    first_index = group.shards.count()
    clock_step_ns = _clock_step_ns(group.experiment)
    for index, share in enumerate(shares, first_index):
        clients = [[start + first_client, stop + first_client, step] for start, stop, step in share.clients]
        shard = Shard.objects.create(
            group=group,
            index=index,
            worker=share.worker,
            worker_instance=share.worker.instance if share.worker else "",
            clients=clients,
        )
        sending.send_order(shard, clock_step_ns)


def _clock_step_ns(experiment: Experiment | None) -> int:
    """By how much the broker's clock was set since the start of a running experiment, on whose axis rows are stored."""
    return step_ns(experiment) if experiment is not None and experiment.start_broker_ns is not None else 0


def of_experiment(experiment: Experiment) -> list[Shard]:
    return list(
        Shard.objects.filter(group__experiment=experiment)
        .select_related("worker", "group__workload")
        .order_by("group", "index")
    )


def statuses_of(shards: list[Shard]) -> dict[int, messages.ShardStatus]:
    """The last status of each shard, by shard id; statuses of other attempts are left out."""
    values = redis_client().mget([keys.shard_key(shard.id) for shard in shards]) if shards else []
    statuses = {}
    for shard, value in zip(shards, values, strict=True):
        if value is None:
            continue
        try:
            status = from_json(messages.ShardStatus, value)
        except MessageError as error:
            log.warning("shard %s: its status cannot be read: %s", shard, error)
            continue
        if status.attempt == shard.attempt:
            statuses[shard.id] = status
    return statuses


def follow(experiment: Experiment | None, shards: list[Shard]) -> None:
    """Updates the rows of shards from their statuses, from ingested batches, and from the states of their workers.

    Lost and returning shards get an event on the timeline of `experiment`, if there is one.
    """
    active = [shard for shard in shards if shard.status not in REPORTED_ENDS]
    statuses, leases = statuses_of(active), leases_of(active)
    for shard in active:
        _follow_one(experiment, shard, statuses.get(shard.id), leases.get(shard.id))


def _follow_one(
    experiment: Experiment | None, shard: Shard, status: messages.ShardStatus | None, lease_ms: int | None
) -> None:
    # The last status of a dead shard stays in Redis for a while: a lost one is back only with a lease, or at its end.
    is_back = status is not None and (lease_ms is not None or status.state in ENDS)
    if status is not None and (shard.status != ShardStatus.LOST or is_back):
        if shard.worker is None:
            placement.note_taker(shard, status.worker)
        if shard.worker is not None:
            _apply(experiment, shard, status, shard.worker)
    if shard.status in REPORTED_ENDS:
        return
    if shard.totals is not None:
        end = _STATUS_OF[ShardState(shard.final_state)]
        if end != shard.status:
            _move(experiment, shard, end, process_ended=end == ShardStatus.LOST)
    elif shard.status == ShardStatus.LOST:
        return
    elif lease_ms is None:
        if reason := _loss(shard):
            _move(experiment, shard, ShardStatus.LOST, reason=reason)
    elif lease_ms < keys.LEASE_TTL_MS - OVERDUE_NS // 1_000_000:
        note_missed(Shard.objects.attempt_of(shard), shard)
    elif shard.missed_since is not None:
        Shard.objects.attempt_of(shard).update(missed_since=None)


def _move(experiment: Experiment | None, shard: Shard, target: str, **fields: Any) -> None:
    """Moves a shard to a status; a loss or a return gets an event in the same transaction."""
    before = shard.status
    # `missed_at` tells one absence of an attempt from another, however often it goes and comes back.
    absence = shard.missed_at.isoformat() if shard.missed_at else ""
    with transaction.atomic():
        if not Shard.objects.move(shard, target, **fields) or experiment is None:
            return
        if target == ShardStatus.LOST != before:
            what, why = "lost", shard.reason
        elif before == ShardStatus.LOST != target:
            what, why = "back", f"it is {target.lower()}"
        else:
            return
        key = f"{what}:{shard.id}:{shard.attempt}:{absence}"
        events.record(experiment.id, f"shard {what}", f"{shard}: {why}", key=key)


_STATUS_OF = {
    ShardState.READY: ShardStatus.READY,
    ShardState.RUNNING: ShardStatus.RUNNING,
    ShardState.FINISHED: ShardStatus.FINISHED,
    ShardState.STOPPED: ShardStatus.STOPPED,
    ShardState.FAILED: ShardStatus.FAILED,
    ShardState.LOST: ShardStatus.LOST,
}


def _apply(experiment: Experiment | None, shard: Shard, status: messages.ShardStatus, worker: Worker) -> None:
    """Takes a shard's reported status and facts over into its row."""
    target = _STATUS_OF.get(status.state)
    if target is None or (target == shard.status and shard.process_ended == (target == ShardStatus.LOST)):
        return
    facts: dict[str, Any] = {"process_ended": target == ShardStatus.LOST, "missed_since": None}
    if shard.status == ShardStatus.DISPATCHED:
        # The worker may have been restarted since the order was sent.
        facts["worker_instance"] = worker.instance
    if status.clock is not None:
        facts |= {"clock_offset_ns": status.clock.offset_ns, "clock_uncertainty_ns": status.clock.uncertainty_ns}
    if status.descriptor_limit:
        facts["descriptor_limit"] = status.descriptor_limit
    # The reason may end in an app's output: characters that a database cannot store are removed.
    _move(experiment, shard, target, reason=status.reason.replace("\0", "")[:MAX_REASON], **facts)


def leases_of(shards: list[Shard]) -> dict[int, int]:
    """The remaining ms of each lease that the shard's current attempt holds, by shard id.

    A lease with more than its TTL was written before the broker's clock was set back: its holder may be dead, and one
    that lives writes it again soon. It counts as missing until then.
    """
    pipeline = redis_client().pipeline(transaction=False)
    for shard in shards:
        pipeline.get(keys.lease_key(shard.id))
        pipeline.pttl(keys.lease_key(shard.id))
    replies = pipeline.execute() if shards else []
    return {
        shard.id: ttl
        for shard, lease, ttl in zip(shards, replies[::2], replies[1::2], strict=True)
        if int(as_text(lease or b"0").partition(":")[0]) == shard.attempt and 0 <= ttl <= keys.LEASE_TTL_MS
    }


def _loss(shard: Shard) -> str:
    """The reason why a shard without a lease is lost; "" while it is not."""
    worker = shard.worker
    if worker is None:  # no worker has taken its order
        return ""
    if not worker.is_live or worker.instance != shard.worker_instance:
        return f"worker {worker.name} was lost"
    if shard.status not in (ShardStatus.READY, ShardStatus.RUNNING):
        return ""
    if is_missed_for_good(Shard.objects.attempt_of(shard), shard):
        return f"its process on {worker.name} died or hangs"
    return ""


def to_order_again(shards: list[Shard]) -> list[Shard]:
    """The shards that were lost or not taken in time, and may have another attempt now.

    All are checked before the first is ordered, as its order fills the queue that must be empty for the others.
    """
    return [shard for shard in shards if shard.attempt < MAX_ATTEMPTS and _is_due(shard)]


def _is_due(shard: Shard) -> bool:
    if shard.status == ShardStatus.LOST:
        # The pauses grow, so that a worker that loses each attempt at once does not use them all up.
        return shard.ordered_at is None or wall_clock.since(shard.ordered_at) > timedelta(seconds=shard.attempt**2)
    return is_silent(shard) and not placement.may_be_taken(shard)


def is_silent(shard: Shard) -> bool:
    """Whether no worker has taken a shard's order in time."""
    if shard.status != ShardStatus.DISPATCHED:
        return False
    late = shard.ordered_at is None or wall_clock.since(shard.ordered_at) > timedelta(seconds=SILENT_S)
    return late and not leases_of([shard])


def is_over(shard: Shard) -> bool:
    """Whether no attempt can be alive. Of several attempts, an earlier one may still be out of reach."""
    ended = shard.process_ended or shard.status in REPORTED_ENDS
    return ended and shard.attempt == 1


def give_up(experiment: Experiment | None, shard: Shard, reason: str) -> None:
    """Marks a shard as LOST that no worker runs."""
    _move(experiment, shard, ShardStatus.LOST, process_ended=True, reason=reason)


def order_again(experiment: Experiment | None, shard: Shard) -> None:
    """Orders a shard under its next attempt, perhaps elsewhere.

    Once the load runs, only a shard that sends nothing more may be ordered again: one whose process has ended, or,
    under `replace`, one that has stopped by itself because it lost its lease.

    Raises:
        NoMatchingWorkers, NoFreeSlot: its worker is lost and no other can take it; never with placement `queue`.
        AppMissing: the repository no longer has its client app.
    """
    apps.provide([shard.group.workload])
    worker = _next_worker(shard)
    # Before the row loses the reading of the lost attempt, which may be the only one.
    clock_step_ns = _clock_step_ns(experiment)
    fields: dict[str, Any] = {
        "totals": None,
        "batches": None,
        "final_state": "",
        "process_ended": False,
        "attempt": shard.attempt + 1,
        "reason": "",
        "missed_since": None,
        "clock_offset_ns": None,  # that of another device
        "clock_uncertainty_ns": None,
        "worker": worker,
        "worker_instance": worker.instance if worker else "",
    }
    with transaction.atomic():
        # A concurrent cancel or close waits for the row.
        if not _is_wanted(experiment, shard) or not Shard.objects.move(shard, ShardStatus.PENDING, **fields):
            return
        place = f"{shard}: attempt {shard.attempt} {shard.place}"
        log.warning("shard ordered again: %s", place)
        if experiment is not None:
            events.record(experiment.id, "shard ordered again", place, key=f"again:{shard.id}:{shard.attempt}")
        sending.send_order(shard, clock_step_ns)


def _is_wanted(experiment: Experiment | None, shard: Shard) -> bool:
    """Locks the row that a cancel or a close changes; returns whether neither has happened."""
    if shard.group.interactive is not None or experiment is None:
        groups = ClientGroup.objects.select_for_update().filter(id=shard.group_id)
        return groups.not_stopped().exists()
    return Experiment.objects.select_for_update().filter(id=experiment.id, status=experiment.status).exists()


def _next_worker(shard: Shard) -> Worker | None:
    """Another worker than the failed one, if possible; None: any worker that takes the order from its queue."""
    if shard.group.workload.queue is not None:
        return None
    try:
        return placement.another_worker(shard.group.workload, avoid=shard.worker)
    except placement.NoFreeSlot:
        if shard.status == ShardStatus.DISPATCHED and shard.worker and shard.worker.status == WorkerStatus.READY:
            return shard.worker  # the slot that it waits for is its own
        raise
