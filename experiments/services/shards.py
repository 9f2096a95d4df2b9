"""Shards: made at placement, followed by what they say of themselves and by their worker's heartbeat."""

import logging
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from experiments.models import Client, ClientGroup, Experiment, Shard, Worker, Workload
from experiments.services import desired, dispatch, events, placement
from experiments.services.registry import LIVE, as_text, is_missed_for_good
from experiments.services.transitions import move_shard
from loadgen import messages
from loadgen.messages import MessageError, ShardStatus, from_json
from routing.connection import redis_client

log = logging.getLogger(__name__)

# A dispatched shard that has not said anything by then is ordered again under the next attempt.
SILENT_S = 10
MAX_REASON = 4000


def place_group(experiment: Experiment, workload: Workload) -> None:
    """Makes a workload's group with its shards and clients, and orders the shards.

    Raises:
        NoMatchingWorkers, NoFreeSlot
    """
    shares = placement.place(workload.worker_labels, workload.clients)
    with transaction.atomic():
        # A cancel that comes now waits for the row, and finds the group to stop.
        starting = Experiment.objects.select_for_update().filter(id=experiment.id, status=Experiment.Status.STARTING)
        if not starting.exists():
            return
        group = ClientGroup.objects.create(
            id=f"{experiment.id}.{workload.index}",
            experiment=experiment,
            workload=workload,
            total_clients=workload.clients,
            created=timezone.now(),
        )
        desired.project_after_commit(group.id)
        for index, share in enumerate(shares):
            shard = Shard.objects.create(
                group=group,
                index=index,
                worker=share.worker,
                worker_instance=share.worker.instance,
                clients=share.clients,
            )
            Client.objects.bulk_create(
                (
                    Client(group=group, shard=shard, index=client)
                    for bounds in share.clients
                    for client in range(*bounds)
                ),
                batch_size=1000,
            )
            dispatch.dispatch(shard)


def of_experiment(experiment: Experiment) -> list[Shard]:
    return list(
        Shard.objects.filter(group__experiment=experiment).select_related("worker", "group").order_by("group", "index")
    )


def statuses_of(shards: list[Shard]) -> dict[int, ShardStatus]:
    """What the shards last said, by shard id; what another attempt said is left out."""
    values = redis_client().mget([messages.shard_key(shard.id) for shard in shards]) if shards else []
    said = {}
    for shard, value in zip(shards, values, strict=True):
        if value is None:
            continue
        try:
            status = from_json(ShardStatus, value)
        except MessageError as error:
            log.warning("shard %s: its status cannot be read: %s", shard, error)
            continue
        if status.attempt == shard.attempt:
            said[shard.id] = status
    return said


def follow(experiment: Experiment, shards: list[Shard]) -> None:
    """Brings the rows of shards up to what they say, what ingest has of them, and what became of their workers."""
    active = [shard for shard in shards if shard.status not in (Shard.Status.FINISHED, Shard.Status.FAILED)]
    said = statuses_of(active)
    leased = _leased(active)
    for shard in active:
        status = said.get(shard.id)
        if status is not None and (shard.status != Shard.Status.LOST or _is_back(status, shard.id in leased)):
            _obey(shard, status)
        if shard.status in (Shard.Status.FINISHED, Shard.Status.FAILED):
            continue
        if shard.totals is not None:
            move_shard(shard, Shard.Status.FINISHED)
        elif shard.status == Shard.Status.LOST:
            continue
        elif shard.id in leased:
            if shard.missed_since is not None:
                Shard.objects.filter(id=shard.id).update(missed_since=None)
        elif (reason := _loss(shard)) and move_shard(shard, Shard.Status.LOST, reason=reason):
            events.record(experiment.id, "shard lost", f"{shard}: {reason}", key=f"lost:{shard.id}:{shard.attempt}")


def _is_back(status: ShardStatus, leased: bool) -> bool:
    """Whether a lost shard has been heard of again: the last words of a dead one stay in Redis for a while, too."""
    return leased or status.state in (messages.FINISHED, messages.FAILED)


def _obey(shard: Shard, status: ShardStatus) -> None:
    clock = status.clock
    facts = {
        "descriptor_limit": status.descriptor_limit,
        "clock_offset_ns": clock.offset_ns if clock else None,
        "clock_uncertainty_ns": clock.uncertainty_ns if clock else None,
    }
    target = {
        messages.READY: Shard.Status.READY,
        messages.RUNNING: Shard.Status.RUNNING,
        messages.FINISHED: Shard.Status.FINISHED,
        messages.FAILED: Shard.Status.FAILED,
    }.get(status.state)
    if target is not None and target != shard.status:
        # The reason may end in an app's own words: what no database takes is left out.
        reason = status.reason.replace("\0", "")[:MAX_REASON]
        move_shard(shard, target, reason=reason, missed_since=None, **facts)


def _leased(shards: list[Shard]) -> set[int]:
    """Ids of the shards that hold their lease under the attempt that their row names."""
    values = redis_client().mget([messages.lease_key(shard.id) for shard in shards]) if shards else []
    attempts = (int(as_text(value or b"0").partition(":")[0]) for value in values)
    return {shard.id for shard, attempt in zip(shards, attempts, strict=True) if attempt == shard.attempt}


def _loss(shard: Shard) -> str:
    """Why a shard without a lease is lost; "" while it is not.

    Its worker is gone or was started anew; or its process, which held a lease, renews it no more.
    """
    worker = shard.worker
    if worker.status not in LIVE or worker.instance != shard.worker_instance:
        return f"worker {worker.name} was lost"
    if shard.status not in (Shard.Status.READY, Shard.Status.RUNNING):
        return ""
    if is_missed_for_good(Shard.objects.filter(id=shard.id, attempt=shard.attempt), shard):
        return f"its process on {worker.name} died or hangs"
    return ""


def order_again_if_silent(shard: Shard) -> None:
    """Orders a shard anew that was lost before the start or has not said anything in time, perhaps elsewhere.

    Raises:
        NoMatchingWorkers, NoFreeSlot: when its worker is gone and no other can take it.
    """
    silent = shard.status == Shard.Status.DISPATCHED and (
        shard.dispatched is None or timezone.now() - shard.dispatched > timedelta(seconds=SILENT_S)
    )
    if shard.status != Shard.Status.LOST and not (silent and not _leased([shard])):
        return
    fields: dict[str, Any] = {
        "totals": None,
        "batches": None,
        "attempt": shard.attempt + 1,
        "reason": "",
        "missed_since": None,
    }
    if shard.status == Shard.Status.LOST or shard.worker.status != Worker.Status.READY:
        worker = placement.place(shard.group.workload.worker_labels, 1)[0].worker
        fields |= {"worker": worker, "worker_instance": worker.instance}
    log.warning("shard %s: ordered again, attempt %d", shard, fields["attempt"])
    with transaction.atomic():
        if move_shard(shard, Shard.Status.PENDING, **fields):
            dispatch.dispatch(shard)
