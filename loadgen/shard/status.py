"""A shard's status, written to Redis whenever Redis is reachable."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from redis.exceptions import RedisError

from loadgen.protocol.enums import ShardState
from loadgen.protocol.messages import ClockSample, ShardStatus
from loadgen.shard.lease import Fence

logger = logging.getLogger(__name__)


class StatusWriter:
    """Holds a shard's status; each change is written through the fence at once, or again with `write`."""

    def __init__(self, fence: Fence, status: ShardStatus) -> None:
        self._fence = fence
        self._turn = asyncio.Lock()
        self.status = status
        self.is_unwritten = False  # Redis does not have what `status` says

    def take_clock(self, sample: ClockSample) -> None:
        """The clock goes out with the next change of state."""
        self.status = replace(self.status, clock=sample)

    async def say(self, state: ShardState, reason: str = "") -> None:
        """Changes the state and writes it."""
        self.status = replace(self.status, state=state, reason=reason)
        await self.write()

    async def say_phases(self, begun: int, done: list[int]) -> None:
        """Changes the numbers of the phases (messages.ShardStatus), and writes the status if they are new."""
        if (begun, done) != (self.status.phase, self.status.phases_done):
            deserted = self.status.is_deserted and begun == self.status.phase
            self.status = replace(self.status, phase=begun, phases_done=done, is_deserted=deserted)
            await self.write()

    async def say_deserted(self) -> None:
        """Says that the load was paused, as the controller had not renewed it."""
        self.status = replace(self.status, is_deserted=True)
        await self.write()

    async def write(self) -> None:
        """Writes the status as it is when the turn comes, so that an older one never replaces a newer one."""
        self.is_unwritten = True
        async with self._turn:
            try:
                await self._fence.write_status(self.status)
                self.is_unwritten = False
            except RedisError as error:
                logger.warning("status %s cannot be written: %s", self.status.state, error)
