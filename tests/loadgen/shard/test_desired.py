"""DesiredStateReader against a real Redis: which changes it reports."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
import redis.asyncio

from loadgen.protocol.enums import DesiredState
from loadgen.protocol.keys import group_channel, group_key
from loadgen.protocol.messages import GroupDocument
from loadgen.shard import desired
from loadgen.shard.clock import Clock
from loadgen.shard.desired import DesiredStateReader
from routing.redis.table import UPDATES_CHANNEL
from routing.table import RoutingRecord
from tests.support.redis_server import RedisServer
from tests.support.shards import document_of, put_document, put_route

SERVICE = document_of("g").workload.service


class News:
    def __init__(self) -> None:
        self.documents: list[int] = []
        self.hosts: list[list[str] | None] = []

    def take_document(self, document: GroupDocument) -> None:
        self.documents.append(document.version)

    def take_route(self, route: RoutingRecord | None) -> None:
        self.hosts.append(None if route is None else list(route.hosts))


def refresh(server: RedisServer, times: int) -> News:
    """Reads the desired state so many times."""
    news = News()

    async def scenario() -> None:
        client = redis.asyncio.Redis.from_url(server.url)
        reader = DesiredStateReader(client, "g", news.take_document, news.take_route, Clock())
        for _ in range(times):
            await reader.refresh()
        await client.aclose()

    asyncio.run(scenario())
    return news


@pytest.fixture
def group(store: redis.Redis) -> None:
    put_document(store, document_of("g", state=DesiredState.RUN))
    put_route(store, {"10.0.0.1": 1.0})


@pytest.mark.usefixtures("group")
def test_document_and_route_are_reported_once(redis_server: RedisServer) -> None:
    news = refresh(redis_server, times=3)
    assert (news.documents, news.hosts) == ([1], [["10.0.0.1"]])


@pytest.mark.usefixtures("group")
def test_redis_emptied_between_two_reads_takes_no_route_away(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, reads = desired.read_async, []

    async def read(*arguments: Any) -> RoutingRecord | None:
        reads.append(arguments)
        if len(reads) == 2:
            store.flushall()
        return await genuine(*arguments)

    monkeypatch.setattr(desired, "read_async", read)
    news = refresh(redis_server, times=3)
    assert (news.hosts, len(reads)) == ([["10.0.0.1"]], 2)


@pytest.mark.usefixtures("group")
def test_time_of_the_last_renewal_is_known(redis_server: RedisServer, store: redis.Redis) -> None:
    async def scenario() -> list[int]:
        client = redis.asyncio.Redis.from_url(redis_server.url)
        news = News()
        reader = DesiredStateReader(client, "g", news.take_document, news.take_route, Clock())
        times = [reader.renewed_ns]
        for is_renewed in (False, True, False):
            if is_renewed:
                store.hincrby(group_key("g"), "renewals", 1)
            await reader.refresh()
            times.append(reader.renewed_ns)
        await client.aclose()
        return times

    begin, unrenewed, renewed, later = asyncio.run(scenario())
    assert begin == unrenewed < renewed == later


@pytest.mark.parametrize(
    ("channel", "data", "concerns"),
    [
        (UPDATES_CHANNEL, SERVICE, True),
        (UPDATES_CHANNEL, "other", False),
        (UPDATES_CHANNEL, f"{SERVICE}2", False),
        (group_channel("g"), "2", True),
    ],
)
@pytest.mark.usefixtures("group")
def test_only_announcements_of_its_group_and_service_wake_a_shard(
    redis_server: RedisServer, channel: str, data: str, concerns: bool
) -> None:
    async def scenario() -> bool:
        client = redis.asyncio.Redis.from_url(redis_server.url)
        reader = DesiredStateReader(client, "g", lambda document: None, lambda route: None, Clock())
        await reader.refresh()
        async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(channel)
            await client.publish(channel, data)
            message = None
            while message is None:
                message = await pubsub.get_message(timeout=1)
        await client.aclose()
        return reader._concerns(message)

    assert asyncio.run(scenario()) is concerns
