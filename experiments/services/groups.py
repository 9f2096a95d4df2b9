"""Interactive client groups: a user spawns, commands and closes them; the reconciler follows their shards."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import string
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from experiments.models import ClientGroup, GroupState, InteractiveGroup, Shard, ShardStatus
from experiments.plans import GroupWorkload
from experiments.services import apps, desired, events, interactive, placement, shards
from experiments.services.broker import broker_now_ns, start_lock
from experiments.services.workers import NoMatchingWorkers, sync_workers
from loadgen.protocol.enums import CommandKind
from loadgen.protocol.keys import GROUP_LEASE_S
from loadgen.protocol.messages import GroupCommand
from routing.errors import Conflict

log = logging.getLogger(__name__)

# From a command to its effect: every shard must have received it by then.
EFFECTIVE_AHEAD_NS = 80_000_000
# How long a stop stays in Redis for shards out of reach. One that returns later finds no document, and ends by itself.
STOP_STAYS_S = 3600
_ID_LETTERS = string.ascii_lowercase + string.digits


class GroupClosed(Conflict):
    """The client group is closed and takes no commands; the message names it."""


class GroupNotReady(Conflict):
    """Clients are being added to the group; the message names it."""


def spawn(workload: GroupWorkload, creator: str) -> ClientGroup:
    """Creates a group whose clients send nothing yet; they take part when all of its shards are ready (`follow`).

    Raises:
        PlanInvalid: its client app refuses these parameters.
        NoMatchingWorkers, NoFreeSlot, AppMissing
    """
    (spec,) = apps.resolved([workload.spec()], place="")
    sync_workers()
    row = placement.workload_row(workload, index=0, spec=dataclasses.asdict(spec))
    shares = placement.shares_of(row, row.clients)
    with start_lock(), transaction.atomic():
        row.save()
        # The index identifies a workload in an experiment's statistics.
        row.index = row.spec["index"] = row.id
        row.save(update_fields=["index", "spec"])
        apps.provide([row])
        now_ns = broker_now_ns()
        group = ClientGroup.objects.create(
            id="g-" + "".join(secrets.choice(_ID_LETTERS) for _ in range(8)),
            workload=row,
            state=GroupState.RUN,
            start_broker_ns=now_ns,
            total_clients=0,
            created_at=timezone.now(),
        )
        InteractiveGroup.objects.create(
            group=group,
            creator=creator,
            seed=secrets.randbits(63),
            command_fields=dataclasses.asdict(GroupCommand(1, now_ns)),
            pending=[[0, workload.clients]],
        )
        interactive.record_new(group)
        desired.project_after_commit(group.id)  # first, because an order without a group's document is refused
        shards.add_shards(group, shares)
    return group


def add(group_id: str, clients: int) -> None:
    """Adds clients on workers with the same labels; they take part when their shards are ready.

    Raises:
        ClientGroup.DoesNotExist, GroupClosed, NoMatchingWorkers, NoFreeSlot, AppMissing
    """
    sync_workers()
    group = _open(ClientGroup.objects.select_related("workload"), group_id)
    apps.provide([group.workload])
    shares = placement.shares_of(group.workload, clients)
    with transaction.atomic():
        group = _open(ClientGroup.objects.select_for_update().select_related("workload"), group_id)
        first = next_client(group)
        part = group.interactive_part
        part.pending = [*part.pending, [first, first + clients]]
        _save(group)
        shards.add_shards(group, shares, first)


def command(group_id: str, **fields: Any) -> int:
    """Gives the group its next command; returns the command's number.

    Args:
        fields: those of messages.GroupCommand, without the number and the start.

    Raises:
        ClientGroup.DoesNotExist, GroupClosed
    """
    with transaction.atomic():
        group = _open(ClientGroup.objects.select_for_update(), group_id)
        # Before the command: a shard whose lease has not been renewed for long would pause at once.
        desired.renew([group_id])
        number = group.interactive_part.command.number + 1
        _set_command(group, GroupCommand(number, broker_now_ns() + EFFECTIVE_AHEAD_NS, **fields))
        _save(group)
    return number


def close(group_id: str, clients: int | None = None) -> None:
    """Closes a group, or only the `clients` that were added last; requests in flight get a short grace.

    Raises:
        ClientGroup.DoesNotExist
        GroupClosed: `clients` is given, and the group is closed.
        GroupNotReady: `clients` is given, and other clients are being added.
    """
    left = 0
    if clients is not None:
        with transaction.atomic():
            group = _open(ClientGroup.objects.select_for_update(), group_id)
            if group.interactive_part.pending:
                raise GroupNotReady(f"clients are being added to client group {group_id}; close some when it is ready")
            left = group.total_clients - clients
            if left > 0:
                group.interactive_part.active = _first(group.interactive_part.active, left)
                group.total_clients = left
                _save(group)
    if left <= 0:
        desired.stop_now([ClientGroup.objects.interactive().get(id=group_id).id])


def next_client(group: ClientGroup) -> int:
    """The index of the next client that is added. Indexes are used once, because request ids contain them."""
    stored = group.shards.values_list("clients", flat=True)
    return max((bounds[1] for clients in stored for bounds in clients), default=0)


def following() -> list[str]:
    """The ids of the groups that have not ended, oldest first. Renews the leases of the open ones, together."""
    groups = list(ClientGroup.objects.following().order_by("created_at").values_list("id", "state"))
    desired.renew([group_id for group_id, state in groups if state == GroupState.RUN])
    return [group_id for group_id, _ in groups]


def keep_up(group_id: str) -> None:
    """Projects the desired state of a group that has not ended, if it is not in Redis, and follows its shards.

    A group whose document cannot be written is followed all the same, so that it can end.

    Raises:
        ClientGroup.DoesNotExist
    """
    try:
        desired.project_stale([group_id])
    finally:
        _follow_patiently(group_id)


def _follow_patiently(group_id: str) -> None:
    try:
        follow(group_id)
    except (NoMatchingWorkers, placement.NoFreeSlot, apps.AppMissing) as error:
        log.warning("client group %s: a shard cannot be placed again yet: %s", group_id, error)


def follow(group_id: str) -> ClientGroup:
    """Updates a group's shards, lets clients take part whose shards are ready, and ends the group with its shards.

    Raises:
        ClientGroup.DoesNotExist
        NoMatchingWorkers, NoFreeSlot: no worker has taken a shard, and none can.
    """
    group = ClientGroup.objects.select_related("experiment", "workload", "interactive_part").get(id=group_id)
    members = list(group.shards.select_related("worker", "group__workload", "group__experiment").order_by("index"))
    shards.follow(group.experiment, members)
    for shard in members:
        is_hopeless = shard.attempt >= shards.MAX_ATTEMPTS and not placement.may_be_taken(shard)
        if shards.is_silent(shard) and (group.state == GroupState.STOP or is_hopeless):
            shards.give_up(group.experiment, shard, "no worker took its order")
    if all(shard.has_ended for shard in members):
        _end(group.id)
        return ClientGroup.objects.get(id=group_id)
    if group.state == GroupState.RUN:
        untaken = [shard for shard in members if shard.status == ShardStatus.DISPATCHED]
        for shard in shards.to_order_again(untaken):
            shards.order_again(group.experiment, shard)
        if any(_is_settled(members, bounds) for bounds in group.interactive_part.pending):
            group = _activate(group_id, members)
        _pause_if_deserted(group, members)
    return group


def shards_of(group: ClientGroup, ranges: list[list[int]]) -> list[Shard]:
    """The group's shards that run clients of these ranges."""
    return _of(list(group.shards.all()), ranges)


def _of(members: list[Shard], ranges: list[list[int]]) -> list[Shard]:
    return [shard for shard in members if any(begin <= shard.clients[0][0] < end for begin, end in ranges)]


def _is_settled(members: list[Shard], bounds: list[int]) -> bool:
    """Whether every shard of these clients is ready or has failed."""
    own = _of(members, [bounds])
    return bool(own) and all(shard.status not in (ShardStatus.PENDING, ShardStatus.DISPATCHED) for shard in own)


def _activate(group_id: str, members: list[Shard]) -> ClientGroup:
    """Lets clients take part whose shards are ready."""
    with transaction.atomic():
        group = ClientGroup.objects.select_for_update().get(id=group_id)
        part = group.interactive_part
        settled = [bounds for bounds in part.pending if _is_settled(members, bounds)]
        if group.state != GroupState.RUN or not settled:
            return group
        before = [shard for shard in _of(members, part.active) if not shard.has_ended]
        part.pending = [bounds for bounds in part.pending if bounds not in settled]
        part.active = sorted([*part.active, *settled])
        group.total_clients = sum(end - begin for begin, end in part.active)
        current = part.command
        number, start_ns = current.number + 1, broker_now_ns() + EFFECTIVE_AHEAD_NS
        if current.kind == CommandKind.RATE:
            # Distributes the clients' turns again. Other commands continue, so that no client repeats its requests.
            _set_command(group, dataclasses.replace(current, number=number, start_broker_ns=start_ns))
        elif before and _is_done(before, current.number):
            _set_command(group, GroupCommand(number, start_ns))  # clients added after the requests do not make them
        _save(group)
    return group


def _is_done(members: list[Shard], number: int) -> bool:
    """Whether all of these shards have completed a command."""
    statuses = shards.statuses_of(members)
    return all(shard.id in statuses and number in statuses[shard.id].phases_done for shard in members)


def _pause_if_deserted(group: ClientGroup, members: list[Shard]) -> None:
    """Pauses the group until its next command when one of its shards has paused because its lease was not renewed."""
    number = group.interactive_part.command.number
    statuses = shards.statuses_of([shard for shard in members if shard.status == ShardStatus.RUNNING])
    if any(status.is_deserted and status.phase == number for status in statuses.values()):
        reason = f"no controller had renewed it for {GROUP_LEASE_S} s"
        log.warning("client group %s pauses: %s", group.id, reason)
        if group.experiment_id is not None:
            key = f"deserted:{group.id}:{number}"
            events.record(group.experiment_id, "client group paused", f"{group.id}: {reason}", key=key)
        command(group.id, kind=CommandKind.RATE)


def _end(group_id: str) -> None:
    """Ends a group whose shards have all ended or are out of reach; the latter find its stop when they return."""
    with transaction.atomic():
        group = ClientGroup.objects.select_for_update().get(id=group_id)
        members = list(group.shards.all())
        # Clients may have been added meanwhile.
        if group.interactive_part.ended_at is not None or any(not shard.has_ended for shard in members):
            return
        InteractiveGroup.objects.filter(group=group_id).update(ended_at=timezone.now(), pending=[])
        ClientGroup.objects.filter(id=group_id).update(state=GroupState.STOP, version=F("version") + 1)
    ids = [shard.id for shard in members]
    if all(shards.is_over(shard) for shard in members):
        desired.forget(group_id, ids)
    else:
        desired.leave_stop(group_id, ids, STOP_STAYS_S)


def _open(groups: QuerySet[ClientGroup], group_id: str) -> ClientGroup:
    group = groups.get(id=group_id, interactive_part__isnull=False)
    if group.state == GroupState.STOP:
        raise GroupClosed(f"client group {group_id} is closed; spawn another one")
    return group


def _set_command(group: ClientGroup, new: GroupCommand) -> None:
    group.interactive_part.command_fields = dataclasses.asdict(new)


def _save(group: ClientGroup) -> None:
    """Stores a group's new state, within a transaction that holds the row's lock, and projects it."""
    part = group.interactive_part
    part.save(update_fields=["command_fields", "active", "pending"])
    ClientGroup.objects.filter(id=group.id).update(total_clients=group.total_clients, version=F("version") + 1)
    desired.project_after_commit(group.id)


def _first(ranges: list[list[int]], clients: int) -> list[list[int]]:
    """The first `clients` clients of these ranges."""
    kept = []
    for begin, end in ranges:
        if clients <= 0:
            break
        kept.append([begin, min(end, begin + clients)])
        clients -= end - begin
    return kept
