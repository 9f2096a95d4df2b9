"""The fence: one attempt at a time, each once, the newest heard."""

import asyncio
from collections.abc import Awaitable, Callable

import redis
import redis.asyncio

from loadgen.fence import Fence
from loadgen.messages import RUNNING, ShardStatus, lease_key
from loadgen.redis_client import async_client
from tests.support.redis_server import RedisServer
from tests.support.shards import order_of, state_of, status_of
from tests.support.worker_process import settings_for


def with_client(server: RedisServer, tmp_path, work: Callable[[redis.asyncio.Redis], Awaitable[None]]) -> None:
    async def run() -> None:
        async with async_client(settings_for(server, "w", tmp_path).redis) as client:
            await work(client)

    asyncio.run(run())


def status(attempt: int) -> ShardStatus:
    return ShardStatus(1, attempt, "w", 1, RUNNING)


def test_a_higher_attempt_takes_over_and_the_lower_one_learns_it(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        first = Fence(client, order_of(1, "g", attempt=1))
        second = Fence(client, order_of(1, "g", attempt=2))
        assert await first.acquire()
        assert await first.renew()
        assert await second.acquire()
        assert not await first.renew()
        assert not await first.write_status(status(1))
        assert await second.write_status(status(2))
        await first.release()
        assert await second.renew()

    with_client(redis_server, tmp_path, work)
    assert status_of(store, 1).attempt == 2


def test_a_stale_attempt_gets_nothing_even_when_the_newer_one_has_long_ended(
    redis_server, store: redis.Redis, tmp_path
) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        second = Fence(client, order_of(1, "g", attempt=2))
        assert await second.acquire()
        await second.release()
        stale = Fence(client, order_of(1, "g", attempt=1))
        assert not await stale.acquire()
        assert not await stale.renew()
        assert not await stale.write_status(status(1))

    with_client(redis_server, tmp_path, work)
    assert state_of(store, 1) == ""


def test_an_attempt_runs_once_though_its_order_is_delivered_twice(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        one, copy, later = (Fence(client, order_of(1, "g")) for _ in range(3))
        assert await one.acquire()
        assert not await copy.acquire()
        await one.release()
        assert not await later.acquire()

    with_client(redis_server, tmp_path, work)


def test_a_lease_that_redis_lost_is_taken_again_by_its_holder(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        fence = Fence(client, order_of(1, "g"))
        assert await fence.acquire()
        await client.flushall()
        assert await fence.renew()

    with_client(redis_server, tmp_path, work)
    assert store.get(lease_key(1)).startswith(b"1:")
    assert 0 < store.pttl(lease_key(1)) <= 6000


def test_a_number_that_a_new_database_uses_again_is_not_fenced_by_the_old_group(
    redis_server, store: redis.Redis, tmp_path
) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        old = Fence(client, order_of(1, "old", attempt=3))
        assert await old.acquire()
        await old.release()
        assert await Fence(client, order_of(1, "new", attempt=1)).acquire()

    with_client(redis_server, tmp_path, work)
