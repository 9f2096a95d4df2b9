"""FakeClock: a shard's clock that a test moves, for parts that run until they are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class FakeClock:
    """Time passes in `sleep` alone; `run` cancels a part that would sleep beyond the part's time."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000
        self._end_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        if self.now_ns + seconds * 1e9 > self._end_ns:
            raise asyncio.CancelledError
        self.now_ns += round(seconds * 1e9)

    def run(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        """Lets an endless part run for so many seconds of this clock."""
        self._end_ns = self.now_ns + round(seconds * 1e9)

        async def until_the_end() -> None:
            try:
                await work
            except asyncio.CancelledError:
                self.now_ns = self._end_ns

        asyncio.run(until_the_end())
