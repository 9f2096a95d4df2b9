"""StatusWriter: a shard's status, written to Redis whenever Redis is reachable."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from redis.exceptions import RedisError

from loadgen.engine.executors.base import CommandProgress
from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.protocol.enums import ShardState
from loadgen.protocol.keys import LEASE_RENEW_S
from loadgen.protocol.messages import ClockSample, ShardStatus
from loadgen.shard.clock import Clock
from loadgen.shard.lease import Fence

STATUS_EVERY_S = 10.0

logger = logging.getLogger(__name__)


class StatusWriter:
    """Holds a shard's status; each change is written through the fence at once, or again with `write`."""

    def __init__(self, fence: Fence, status: ShardStatus, clock: Clock) -> None:
        self._fence = fence
        self._clock = clock
        self._turn = asyncio.Lock()
        self.status = status
        self.is_unwritten = False  # Redis does not have what `status` says

    def take_clock(self, sample: ClockSample) -> None:
        """The clock goes out with the next change of state."""
        self.status = replace(self.status, clock=sample)

    async def set_state(self, state: ShardState, reason: str = "") -> None:
        """Changes the state and writes it."""
        self.status = replace(self.status, state=state, reason=reason)
        await self.write()

    async def set_commands(self, progress: CommandProgress, rows: int) -> None:
        """Changes the numbers of an interactive group's commands, and writes the status if they are new.

        Args:
            rows: recorded so far, those of the commands that are done included.
        """
        begun, done = progress
        if (begun, done) != (self.status.phase, self.status.phases_done):
            is_deserted = self.status.is_deserted and begun == self.status.phase
            self.status = replace(self.status, phase=begun, phases_done=done, rows=rows, is_deserted=is_deserted)
            await self.write()

    async def set_deserted(self) -> None:
        """Notes that the load was paused, as the controller had not renewed it, and writes it."""
        self.status = replace(self.status, is_deserted=True)
        await self.write()

    async def keep(self) -> None:
        """Writes until cancelled what could not be written, and every STATUS_EVERY_S what Redis may have lost."""
        written_ns = self._clock.monotonic_ns()
        while True:
            raise_if_cancelled()
            await self._clock.sleep(LEASE_RENEW_S)
            if self.is_unwritten or self._clock.monotonic_ns() - written_ns >= STATUS_EVERY_S * 1e9:
                await self.write()
                written_ns = self._clock.monotonic_ns()

    async def write(self) -> None:
        """Writes the status as it is when the turn comes, so that an older one never replaces a newer one."""
        self.is_unwritten = True
        async with self._turn:
            try:
                await self._fence.write_status(self.status)
                self.is_unwritten = False
            except RedisError as error:
                logger.warning("status %s cannot be written: %s", self.status.state, error)
