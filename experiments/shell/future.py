"""RequestFuture: the requests that `c.request()` started."""

from __future__ import annotations

import time

from experiments.models import ClientGroup, GroupState, Shard, ShardStatus
from experiments.selectors import are_stored
from experiments.services import groups
from experiments.services.shards import statuses_of
from experiments.shell.errors import GroupFailed, NotReady, Superseded, check_timeout
from loadgen.protocol.enums import CommandKind

LOOK_EVERY_S = 0.05


class RequestFuture:
    """Requests of a client group: wait(timeout), done, abort().

    It always ends: when all requests are completed and stored, so that `info()` counts them, or with an exception when
    the group was closed, clients were lost, or another command replaced the requests.

    Args:
        commands: by the group's id, the number of the command that started the requests.
    """

    def __init__(self, commands: dict[str, int]) -> None:
        self._commands = commands
        self._finished: set[str] = set()
        # Clients that are added later do not make these requests, unless the group had no clients yet.
        self._shards = {
            group.id: [
                shard.id
                for shard in groups.shards_of(group, group.interactive_part.active or group.interactive_part.pending)
                if not shard.has_ended
            ]
            for group in ClientGroup.objects.filter(id__in=commands)
        }

    @property
    def done(self) -> bool:
        """Whether every client has sent its requests and received the responses, and these are stored.

        Raises:
            GroupFailed: clients were lost, failed, or were closed before that.
            Superseded: another command was given before that.
        """
        return all(self._is_done(group_id, number) for group_id, number in self._commands.items())

    def wait(self, timeout: float | None = None) -> None:
        """Waits until it is done. Raises as `done` does, and NotReady after `timeout` seconds."""
        check_timeout(timeout)
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while not self.done:
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise NotReady(f"the requests were not done within {timeout:g} s; they continue")
            time.sleep(LOOK_EVERY_S)

    def abort(self) -> None:
        """Makes the clients send no more of these requests; requests in flight are completed."""
        for group_id, number in self._commands.items():
            group = ClientGroup.objects.get(id=group_id)
            if group.interactive_part.command.number == number and group.state != GroupState.STOP:
                groups.command(group_id, kind=CommandKind.RATE)

    def _is_done(self, group_id: str, number: int) -> bool:
        if group_id in self._finished:
            return True
        group = groups.follow(group_id)
        members = list(Shard.objects.filter(id__in=self._shards[group_id]))
        said = statuses_of(members)
        left = [shard for shard in members if shard.id not in said or number not in said[shard.id].phases_done]
        alive = [shard for shard in left if not shard.has_ended]
        broken = [shard for shard in left if shard.status in (ShardStatus.LOST, ShardStatus.FAILED)]
        if broken:
            raise GroupFailed(f"shard {broken[0]} was lost before its clients were done: {broken[0].reason}")
        if group.state == GroupState.STOP and left:
            raise GroupFailed(f"client group {group_id} was closed before its clients were done")
        # A shard reports what it did of these requests when it begins the next command; before that it is not known.
        if any(shard.id in said and said[shard.id].phase > number for shard in alive):
            raise Superseded(f"another command replaced these requests of client group {group_id}")
        if alive or any(
            shard.id in said and not shard.has_ended and not are_stored(shard, said[shard.id].rows) for shard in members
        ):
            return False
        self._finished.add(group_id)
        return True

    def __repr__(self) -> str:
        try:
            state = "done" if self.done else "under way"
        except (GroupFailed, Superseded) as error:
            state = str(error)
        return f"RequestFuture({', '.join(self._commands)}: {state})"
