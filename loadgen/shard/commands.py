"""InteractiveCommands: hands an interactive group's commands to the engine, and pauses it without a controller."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from loadgen.engine.end import End
from loadgen.engine.executors.base import CommandProgress
from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.protocol.enums import ShardState
from loadgen.protocol.keys import GROUP_LEASE_S
from loadgen.protocol.messages import ClockSample, Counters, GroupCommand, GroupDocument
from loadgen.shard.clock import Clock
from loadgen.shard.desired import DesiredStateReader
from loadgen.shard.status import StatusWriter

logger = logging.getLogger(__name__)

CATCH_UP_NS, AHEAD_NS = 500_000_000, 1_000_000_000
_PROGRESS_EVERY_S = 0.05

FORGOTTEN = End(ShardState.LOST, f"its group's document was gone for {GROUP_LEASE_S} s")


class CommandedEngine(Protocol):
    """The part of the engine that takes commands."""

    @property
    def commands(self) -> CommandProgress: ...

    @property
    def counters(self) -> Counters: ...

    def begin_command(self, message: GroupCommand, at_ns: int, clients: list[int]) -> None: ...

    def keep_clients(self, clients: list[int]) -> None: ...


def active_clients(document: GroupDocument) -> list[int]:
    """Returns the indexes of the group's clients that take part."""
    return [client for begin, end in document.active for client in range(begin, end)]


class InteractiveCommands:
    """The commands of one shard of an interactive group.

    Args:
        stop: ends the shard that the controller has forgotten.
    """

    def __init__(
        self,
        engine: CommandedEngine,
        desired: DesiredStateReader,
        status: StatusWriter,
        stop: Callable[[End], None],
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._desired = desired
        self._status = status
        self._stop = stop
        self._clock = clock
        self._newest: GroupCommand | None = None
        self._clients: list[int] = []

    def take(self, document: GroupDocument, sample: ClockSample | None) -> None:
        """Hands a new command to the engine, or closes the clients that the document does not name any more.

        Args:
            sample: the latest one, not that of the start: interactive groups live for days, in which clocks part.
        """
        command = document.phase
        if command is None or sample is None:
            return
        self._clients = active_clients(document)
        if command == self._newest:
            self._engine.keep_clients(self._clients)
            return
        self._newest = command
        at_ns, now_ns = command.start_broker_ns - sample.offset_ns, self._clock.monotonic_ns()
        # A shard that learns of it too late to catch up begins now; so does one that would wait long, after the
        # broker's clock was set.
        self._begin(command, at_ns if -AHEAD_NS < now_ns - at_ns < CATCH_UP_NS else now_ns)

    def _begin(self, command: GroupCommand, at_ns: int) -> None:
        self._engine.begin_command(command, at_ns, self._clients)

    async def report(self) -> None:
        """Writes to the shard's status when a command takes effect, and when one is done."""
        while True:
            raise_if_cancelled()
            await self._status.set_commands(self._engine.commands, self._engine.counters.rows)
            await self._clock.sleep(_PROGRESS_EVERY_S)

    async def watch_controller(self) -> None:
        """The dead-man's switch: an unbounded load pauses when no controller has renewed the group for a while."""
        while True:
            raise_if_cancelled()
            await self._clock.sleep(1)
            now_ns = self._clock.monotonic_ns()
            lease_ns = GROUP_LEASE_S * 1_000_000_000
            missing_ns = self._desired.missing_since_ns
            if missing_ns is not None and now_ns - missing_ns >= lease_ns:
                # It was lost and its document removed: it can receive no more commands. (A document that Redis lost
                # comes back.)
                self._stop(FORGOTTEN)
            command = self._newest
            if command is None or not command.is_unbounded or self._status.status.is_deserted:
                continue
            if now_ns - self._desired.renewed_ns >= lease_ns:
                logger.warning("the group was not renewed for %d s, its load pauses", GROUP_LEASE_S)
                self._begin(GroupCommand(command.number, command.start_broker_ns), now_ns)
                await self._status.set_deserted()
