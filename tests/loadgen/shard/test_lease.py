"""The fence: one attempt at a time, each once, the newest heard."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import redis
import redis.asyncio

from loadgen.device.redis_connections import async_client
from loadgen.protocol.enums import ShardState
from loadgen.protocol.keys import lease_key
from loadgen.protocol.messages import ShardStatus
from loadgen.shard.lease import STALE, TAKEN, VOID, Fence, declare_lost
from tests.support.redis_server import RedisServer
from tests.support.shards import broker_ns, order_of, state_of, status_of
from tests.support.worker_process import settings_for

pytestmark = pytest.mark.costly


def with_client(server: RedisServer, tmp_path, work: Callable[[redis.asyncio.Redis], Awaitable[None]]) -> None:
    async def run() -> None:
        async with async_client(settings_for(server, "w", tmp_path).redis) as client:
            await work(client)

    asyncio.run(run())


def status(attempt: int) -> ShardStatus:
    return ShardStatus(1, attempt, "w", 1, ShardState.RUNNING)


def test_higher_attempt_waits_for_the_lower_ones_release(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        first = Fence(client, order_of(1, "g", attempt=1))
        second = Fence(client, order_of(1, "g", attempt=2))
        assert await first.acquire() == TAKEN
        assert await first.renew()
        waiting = asyncio.create_task(second.acquire())
        while await first.renew():
            await asyncio.sleep(0.01)
        assert not await first.write_status(status(1))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        assert store.get(lease_key(1)).startswith(b"1:")
        await first.release()
        assert await waiting == TAKEN
        assert await second.write_status(status(2))
        await first.release()
        assert await second.renew()

    with_client(redis_server, tmp_path, work)
    assert status_of(store, 1).attempt == 2


def test_higher_attempt_takes_an_expired_lease(redis_server, store, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        assert await Fence(client, order_of(1, "g", attempt=1), lease_ttl_ms=300).acquire() == TAKEN
        assert await Fence(client, order_of(1, "g", attempt=2)).acquire() == TAKEN

    with_client(redis_server, tmp_path, work)
    assert store.get(lease_key(1)).startswith(b"2:")


def test_waiting_attempt_shortens_a_lease_from_before_a_step_back(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        assert await Fence(client, order_of(1, "g", attempt=1)).acquire() == TAKEN
        await client.pexpire(lease_key(1), 96_000)
        assert await Fence(client, order_of(1, "g", attempt=2), lease_ttl_ms=300).acquire() == TAKEN

    with_client(redis_server, tmp_path, work)


def test_an_order_whose_time_is_over_takes_nothing(redis_server, store: redis.Redis, tmp_path) -> None:
    void_after_ns = broker_ns(store) - 1_000_000

    async def work(client: redis.asyncio.Redis) -> None:
        assert await Fence(client, order_of(1, "g", void_after_broker_ns=void_after_ns)).acquire() == VOID
        later_ns = broker_ns(store, ahead_s=5)
        assert await Fence(client, order_of(1, "g", void_after_broker_ns=later_ns)).acquire() == TAKEN

    with_client(redis_server, tmp_path, work)


def test_only_the_newest_attempt_is_declared_lost(redis_server, store, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        fence = Fence(client, order_of(1, "g", attempt=2))
        assert await fence.acquire() == TAKEN
        await fence.write_status(status(2))

    with_client(redis_server, tmp_path, work)
    for group, attempt in (("other", 2), ("g", 1), ("g", 3)):
        declare_lost(store, group, replace(status(attempt), state=ShardState.LOST))
        assert (state_of(store, 1), store.exists(lease_key(1))) == (ShardState.RUNNING, 1)
    declare_lost(store, "g", replace(status(2), state=ShardState.LOST))
    assert (state_of(store, 1), store.exists(lease_key(1))) == (ShardState.LOST, 0)


def test_a_shards_own_last_word_stands(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        fence = Fence(client, order_of(1, "g"))
        assert await fence.acquire() == TAKEN
        await fence.write_status(replace(status(1), state=ShardState.FINISHED))

    with_client(redis_server, tmp_path, work)
    declare_lost(store, "g", replace(status(1), state=ShardState.LOST))
    assert state_of(store, 1) == ShardState.FINISHED


def test_stale_attempt_is_refused_after_the_newer_ones_end(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        second = Fence(client, order_of(1, "g", attempt=2))
        assert await second.acquire() == TAKEN
        await second.release()
        stale = Fence(client, order_of(1, "g", attempt=1))
        assert await stale.acquire() == STALE
        assert not await stale.renew()
        assert not await stale.write_status(status(1))

    with_client(redis_server, tmp_path, work)
    assert state_of(store, 1) == ""


def test_order_delivered_twice_runs_once(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        one, copy, later = (Fence(client, order_of(1, "g")) for _ in range(3))
        assert await one.acquire() == TAKEN
        assert await copy.acquire() == STALE
        await one.release()
        assert await later.acquire() == STALE

    with_client(redis_server, tmp_path, work)


def test_a_lease_that_redis_lost_is_taken_again_by_its_holder(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        fence = Fence(client, order_of(1, "g"))
        assert await fence.acquire() == TAKEN
        await client.flushall()
        assert await fence.renew()

    with_client(redis_server, tmp_path, work)
    assert store.get(lease_key(1)).startswith(b"1:")
    assert 0 < store.pttl(lease_key(1)) <= 6000


def test_reused_shard_id_is_not_fenced_by_the_old_group(redis_server, store: redis.Redis, tmp_path) -> None:
    async def work(client: redis.asyncio.Redis) -> None:
        old = Fence(client, order_of(1, "old", attempt=3))
        assert await old.acquire() == TAKEN
        await old.release()
        assert await Fence(client, order_of(1, "new", attempt=1)).acquire() == TAKEN

    with_client(redis_server, tmp_path, work)
