"""A loop whose library swallows its cancel ends all the same."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from loadgen.shard.clock import Clock
from loadgen.shard.desired import DesiredStateReader


class SwallowingPubSub:
    """Waits for messages, and takes a cancel for a lost connection."""

    async def __aenter__(self) -> SwallowingPubSub:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def subscribe(self, *_: str) -> None:
        return

    async def get_message(self, timeout: float) -> None:
        try:
            await asyncio.sleep(timeout)
        except asyncio.CancelledError:
            raise RedisConnectionError("lost") from None


class SwallowingClient:
    def pubsub(self, **_: Any) -> SwallowingPubSub:
        return SwallowingPubSub()

    async def hmget(self, *_: object) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise RedisConnectionError("lost") from None


def nothing(_: Any) -> None:
    return


def test_who_follows_the_desired_state_ends_when_told_to() -> None:
    async def scenario() -> None:
        desired = DesiredStateReader(cast(Redis, SwallowingClient()), "group", nothing, nothing, Clock())
        task = asyncio.create_task(desired.follow())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=5)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for other in left:
            other.cancel()
        assert left == set(), "the listener, too, ends: the event loop's end waits for it"

    asyncio.run(scenario())
