"""Shards: made at placement, followed by what they say of themselves and by their worker's heartbeat, ordered again."""

import logging
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from experiments.models import (
    LIVE_WORKER_STATUSES,
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
from experiments.services import apps, desired, events, placement, queue_orders, sending
from experiments.services.transitions import move_shard
from experiments.services.workers import OVERDUE_NS, as_text, is_missed_for_good, note_missed
from loadgen.protocol import keys, messages
from loadgen.protocol.codec import MessageError, from_json
from loadgen.protocol.enums import ENDS, OnWorkerLoss, ShardState
from routing.redis import redis_client

log = logging.getLogger(__name__)

# A dispatched shard that has not said anything by then is ordered again under the next attempt.
SILENT_S = 10
# Each attempt numbers its rows from a base of its own; there is room for so many (loadgen.shard.sealer, models.trace).
MAX_ATTEMPTS = 16
MAX_REASON = 4000


def place_group(experiment: Experiment, workload: Workload) -> None:
    """Makes a workload's group with its shards and clients, and orders the shards.

    Raises:
        NoMatchingWorkers, NoFreeSlot, AppMissing
    """
    apps.provide([workload])
    shares = placement.shares_of(workload, workload.clients)
    with transaction.atomic():
        # A cancel that comes now waits for the row, and finds the group to stop.
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
    for index, share in enumerate(shares, first_index):
        clients = [[start + first_client, stop + first_client, step] for start, stop, step in share.clients]
        shard = Shard.objects.create(
            group=group,
            index=index,
            worker=share.worker,
            worker_instance=share.worker.instance if share.worker else "",
            clients=clients,
        )
        sending.dispatch(shard)


def of_experiment(experiment: Experiment) -> list[Shard]:
    return list(
        Shard.objects.filter(group__experiment=experiment)
        .select_related("worker", "group__workload")
        .order_by("group", "index")
    )


def statuses_of(shards: list[Shard]) -> dict[int, messages.ShardStatus]:
    """The last status of each shard, by shard id; statuses of other attempts are left out."""
    values = redis_client().mget([keys.shard_key(shard.id) for shard in shards]) if shards else []
    said = {}
    for shard, value in zip(shards, values, strict=True):
        if value is None:
            continue
        try:
            status = from_json(messages.ShardStatus, value)
        except MessageError as error:
            log.warning("shard %s: its status cannot be read: %s", shard, error)
            continue
        if status.attempt == shard.attempt:
            said[shard.id] = status
    return said


def follow(experiment: Experiment | None, shards: list[Shard]) -> None:
    """Updates the rows of shards from their statuses, from ingested batches, and from the states of their workers.

    What becomes of them is put on the experiment's timeline; interactive groups may have none.
    """
    active = [shard for shard in shards if shard.status not in REPORTED_ENDS]
    said = statuses_of(active)
    leased = leases_of(active)
    for shard in active:
        _follow_one(experiment, shard, said.get(shard.id), leased.get(shard.id))


def _follow_one(
    experiment: Experiment | None, shard: Shard, status: messages.ShardStatus | None, lease_ms: int | None
) -> None:
    if status is not None and (shard.status != ShardStatus.LOST or _is_back(status, lease_ms)):
        if shard.worker is None:
            queue_orders.note_taker(shard, status.worker)
        if shard.worker is not None:
            _obey(experiment, shard, status, shard.worker)
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
        note_missed(_row_of(shard), shard)
    elif shard.missed_since is not None:
        _row_of(shard).update(missed_since=None)


def _move(experiment: Experiment | None, shard: Shard, target: str, **fields: Any) -> None:
    """Moves a shard; that it was lost, or is back, is put on the timeline with it."""
    before = shard.status
    # `missed_at` tells one absence of an attempt from another, however often it goes and comes back.
    absence = shard.missed_at.isoformat() if shard.missed_at else ""
    with transaction.atomic():
        if not move_shard(shard, target, **fields) or experiment is None:
            return
        if target == ShardStatus.LOST != before:
            what, why = "lost", shard.reason
        elif before == ShardStatus.LOST != target:
            what, why = "back", f"it is {target.lower()}"
        else:
            return
        key = f"{what}:{shard.id}:{shard.attempt}:{absence}"
        events.record(experiment.id, f"shard {what}", f"{shard}: {why}", key=key)


def _is_back(status: messages.ShardStatus, lease_ms: int | None) -> bool:
    """Whether a lost shard has been heard of again: the last words of a dead one stay in Redis for a while, too."""
    return lease_ms is not None or status.state in ENDS


_STATUS_OF = {
    ShardState.READY: ShardStatus.READY,
    ShardState.RUNNING: ShardStatus.RUNNING,
    ShardState.FINISHED: ShardStatus.FINISHED,
    ShardState.STOPPED: ShardStatus.STOPPED,
    ShardState.FAILED: ShardStatus.FAILED,
    ShardState.LOST: ShardStatus.LOST,
}


def _obey(experiment: Experiment | None, shard: Shard, status: messages.ShardStatus, worker: Worker) -> None:
    target = _STATUS_OF.get(status.state)
    if target is None or (target == shard.status and shard.process_ended == (target == ShardStatus.LOST)):
        return
    facts: dict[str, Any] = {"process_ended": target == ShardStatus.LOST, "missed_since": None}
    if shard.status == ShardStatus.DISPATCHED:
        # Its order may have waited for a later start of the worker than the one that it was given to.
        facts["worker_instance"] = worker.instance
    if status.clock is not None:
        facts |= {"clock_offset_ns": status.clock.offset_ns, "clock_uncertainty_ns": status.clock.uncertainty_ns}
    if status.descriptor_limit:
        facts["descriptor_limit"] = status.descriptor_limit
    # The reason may end in an app's output: characters that a database cannot store are removed.
    _move(experiment, shard, target, reason=status.reason.replace("\0", "")[:MAX_REASON], **facts)


def leases_of(shards: list[Shard]) -> dict[int, int]:
    """The ms for which shards hold their lease still, under the attempt that their row names, by shard id."""
    pipeline = redis_client().pipeline(transaction=False)
    for shard in shards:
        pipeline.get(keys.lease_key(shard.id))
        pipeline.pttl(keys.lease_key(shard.id))
    replies = pipeline.execute() if shards else []
    held = zip(shards, replies[::2], replies[1::2], strict=True)
    return {shard.id: ttl for shard, value, ttl in held if _attempt_of(value) == shard.attempt and ttl >= 0}


def _attempt_of(lease: bytes | str | None) -> int:
    return int(as_text(lease or b"0").partition(":")[0])


def _row_of(shard: Shard) -> QuerySet[Shard]:
    return Shard.objects.attempt_of(shard)


def _loss(shard: Shard) -> str:
    """Why a shard without a lease is lost; "" while it is not.

    Its worker is lost or was restarted, or its process no longer renews its lease.
    """
    worker = shard.worker
    if worker is None:  # no worker has taken it
        return ""
    if worker.status not in LIVE_WORKER_STATUSES or worker.instance != shard.worker_instance:
        return f"worker {worker.name} was lost"
    if shard.status not in (ShardStatus.READY, ShardStatus.RUNNING):
        return ""
    if is_missed_for_good(_row_of(shard), shard):
        return f"its process on {worker.name} died or hangs"
    return ""


def to_order_again(shards: list[Shard]) -> list[Shard]:
    """Those of the shards that were lost, or have not said anything in time, and may have another attempt now.

    All at once: the order that is given to one of them waits in the queue that the next one is missed in.
    """
    return [shard for shard in shards if shard.attempt < MAX_ATTEMPTS and _is_due(shard)]


def _is_due(shard: Shard) -> bool:
    if shard.status == ShardStatus.LOST:
        # The pauses grow: a worker that loses each attempt at once must not use them all up.
        return shard.ordered_at is None or timezone.now() - shard.ordered_at > timedelta(seconds=shard.attempt**2)
    return is_silent(shard) and not queue_orders.may_be_taken(shard)


def is_silent(shard: Shard) -> bool:
    """Whether no worker has taken a shard's order in time."""
    if shard.status != ShardStatus.DISPATCHED:
        return False
    late = shard.ordered_at is None or timezone.now() - shard.ordered_at > timedelta(seconds=SILENT_S)
    return late and not leases_of([shard])


def is_over(shard: Shard) -> bool:
    """Whether no attempt of it can be alive: an earlier one may be out of reach still."""
    ended = shard.process_ended or shard.status in REPORTED_ENDS
    return ended and shard.attempt == 1


def give_up(experiment: Experiment | None, shard: Shard, reason: str) -> None:
    """Marks a shard that runs on no worker as lost."""
    _move(experiment, shard, ShardStatus.LOST, process_ended=True, reason=reason)


def order_again(experiment: Experiment | None, shard: Shard) -> None:
    """Orders a shard under its next attempt, perhaps elsewhere.

    Once the load runs, only a shard that sends no more may be ordered again: one that is gone, or that has lost its
    lease, and so stopped by itself, under `replace`.

    Raises:
        NoMatchingWorkers, NoFreeSlot: when its worker is gone and no other can take it; not where it goes to a queue.
        AppMissing: its client app is gone from the repository.
    """
    apps.provide([shard.group.workload])
    worker = _next_worker(shard)
    fields: dict[str, Any] = {
        "totals": None,
        "batches": None,
        "final_state": "",
        "process_ended": False,
        "attempt": shard.attempt + 1,
        "reason": "",
        "missed_since": None,
        "worker": worker,
        "worker_instance": worker.instance if worker else "",
    }
    with transaction.atomic():
        # A cancel, or the close of an interactive group, that comes now waits for the row.
        if not _is_wanted(experiment, shard) or not move_shard(shard, ShardStatus.PENDING, **fields):
            return
        place = f"{shard}: attempt {shard.attempt} {shard.place}"
        log.warning("shard ordered again: %s", place)
        if experiment is not None:
            events.record(experiment.id, "shard ordered again", place, key=f"again:{shard.id}:{shard.attempt}")
        sending.dispatch(shard)


def _is_wanted(experiment: Experiment | None, shard: Shard) -> bool:
    """Locks what a cancel or a close changes, and says whether there was none."""
    if shard.group.interactive is not None or experiment is None:
        groups = ClientGroup.objects.select_for_update().filter(id=shard.group_id)
        return groups.not_stopped().exists()
    return Experiment.objects.select_for_update().filter(id=experiment.id, status=experiment.status).exists()


def _next_worker(shard: Shard) -> Worker | None:
    """Another worker than the one that failed, if there is one; None: any worker that takes it from its queue."""
    if shard.group.workload.queue is not None:
        return None
    try:
        return placement.place(shard.group.workload.worker_labels, 1, avoid=shard.worker)[0].worker
    except placement.NoFreeSlot:
        if shard.status == ShardStatus.DISPATCHED and shard.worker and shard.worker.status == WorkerStatus.READY:
            return shard.worker  # the slot that it waits for is its own
        raise
