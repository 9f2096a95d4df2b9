"""Background: the tasks beside a load, and waits that a stop ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from redis.exceptions import RedisError

from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.shard.clock import Clock

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_RETRY_PAUSE_S = 0.5
_CANCELLED_WITHIN_S = 5.0


class Background:
    """The tasks of one shard.

    Args:
        on_error: called with the programming error that has ended a task.

    Attributes:
        stopped: set by any stop.
    """

    def __init__(self, on_error: Callable[[BaseException], None], clock: Clock) -> None:
        self._on_error = on_error
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self._load_tasks: list[asyncio.Task[None]] = []
        self.stopped = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, None], *, with_load: bool = False) -> None:
        """Starts a task; `with_load`: it is cancelled as soon as the load has ended."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._check)
        (self._load_tasks if with_load else self._tasks).append(task)

    def cancel_with_load(self) -> None:
        """Does not wait for the tasks: the shard's final status must follow its final batch at once."""
        for task in self._load_tasks:
            task.cancel()

    async def cancel(self) -> None:
        tasks = self._load_tasks + self._tasks
        for task in tasks:
            task.cancel()
        if tasks:  # bounded: a library that swallows the cancel must not keep the slot
            await asyncio.wait(tasks, timeout=_CANCELLED_WITHIN_S)

    async def until_stopped(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        """Returns the work's result; None, and the work is cancelled, when a stop comes first."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self.stopped.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None

    async def with_redis(self, step: Callable[[], Awaitable[None]]) -> None:
        """Takes a step that needs Redis, again and again while Redis is away; a stop ends that."""

        async def patiently() -> None:
            while True:
                raise_if_cancelled()
                try:
                    return await step()
                except RedisError as error:
                    logger.warning("Redis is needed and away, trying again: %s", error)
                    await self._clock.sleep(_RETRY_PAUSE_S)

        await self.until_stopped(patiently())

    def _check(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("internal error", exc_info=error)
            self._on_error(error)
