"""A running shard obeys what another tool writes to the routing table at once, and survives what makes no sense."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from loadgen.device.spool import Spool
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.settings import WorkerSettings
from loadgen.protocol.trace_batch import NO_HOST, decode
from loadgen.shard.desired import DesiredStateReader
from loadgen.shard.runner import ShardRunner
from loadgen.tasks import run_loop
from routing.redis.table import RedisRoutingTable
from routing.table import RoutingRecord
from tests.support.foreign_routes import remove_route, set_route
from tests.support.http_target import HttpTarget
from tests.support.redis_server import RedisServer
from tests.support.shards import SERVICE, Rows, broker_ns, document_of, order_of, put_document, put_route
from tests.support.worker_process import settings_for

pytestmark = pytest.mark.slow

Script = Callable[[], Awaitable[None]]


class Reads:
    """Counts how often the shard has read what it is to do, so that a test can wait until it has read a change."""

    def __init__(self) -> None:
        self.started = self.ended = 0

    async def next(self) -> None:
        """Returns when a read that starts from now on has ended."""
        before = self.started
        while self.ended <= before:
            await asyncio.sleep(0.005)


@pytest.fixture
def settings(redis_server: RedisServer, store: redis.Redis, tmp_path: Path) -> WorkerSettings:
    return settings_for(redis_server, "w", tmp_path / "spool")


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The shard's reads, which follow announcements alone: a shard reads by itself only after these short runs."""
    monkeypatch.setattr("loadgen.shard.desired.READ_EVERY_S", 20.0)
    counted, refresh = Reads(), DesiredStateReader.refresh

    async def count(desired: DesiredStateReader) -> None:
        counted.started += 1
        try:
            await refresh(desired)
        finally:
            counted.ended += 1

    monkeypatch.setattr(DesiredStateReader, "refresh", count)
    return counted


def run(settings: WorkerSettings, store: redis.Redis, target: HttpTarget, group: str, script: Script) -> list[Rows]:
    """Runs a shard at 100 requests/s from before a script to half a second after it; returns its batches."""

    sent_before = len(target.ids(group))  # by earlier tests

    async def scenario() -> None:
        document = document_of(group, rate_rps=100.0, duration_s=30.0)
        document = replace(document, version=2, state="run", start_broker_ns=broker_ns(store, 0.3))
        put_document(store, document)
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(ShardRunner(order_of(1, group), settings).run())
            while len(target.ids(group)) == sent_before:
                await asyncio.sleep(0.01)
            await script()
            await asyncio.sleep(0.5)
            put_document(store, replace(document, version=3, state="stop"))

    run_loop(scenario())
    spool = Spool(settings.spool_dir, 1)
    batches = []
    for name in spool.scan():
        batches.append(Rows())
        batches[-1].add(*decode(spool.read(name)))
    assert sum(map(len, batches)) == 3000, "each arrival has a row, those after the stop too"
    return batches


def versions_by_host(batches: list[Rows]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for rows in batches:
        hosts = rows.headers[0].hosts
        for host, version in zip(rows.column("host"), rows.column("routing_version"), strict=True):
            if host != NO_HOST:
                found.setdefault(hosts[host], set()).add(version)
    return found


def outcomes(batches: list[Rows]) -> set[int]:
    """The outcomes of all requests before the stop."""
    return {outcome for rows in batches for outcome in rows.column("outcome")} - {Outcome.CUT}


def test_change_takes_effect_at_once_under_version_0(
    settings: WorkerSettings, store: redis.Redis, target: HttpTarget, reads: Reads
) -> None:
    first, second, _ = target.hosts
    put_route(store, {first: 1.0}, version=3)

    async def script() -> None:
        set_route(store, SERVICE, {second: "1.0"})
        await reads.next()
        sent = len(target.ids("f-change"))
        while len(target.ids("f-change")) < sent + 10:  # of which the last ones left after the read
            await asyncio.sleep(0.01)
        assert RedisRoutingTable(store).confirm(RoutingRecord(SERVICE, [second], [1], 4))

    batches = run(settings, store, target, "f-change", script)

    assert outcomes(batches) == {Outcome.COMPLETED}
    assert versions_by_host(batches) == {first: {3}, second: {0, 4}}


def test_a_removal_is_obeyed_at_once(settings: WorkerSettings, store: redis.Redis, target: HttpTarget) -> None:
    put_route(store, {target.host: 1.0})

    async def script() -> None:
        remove_route(store, SERVICE)

    batches = run(settings, store, target, "f-remove", script)

    assert outcomes(batches) == {Outcome.COMPLETED, Outcome.NO_ROUTE}


@pytest.mark.parametrize("weights", [["much"], ["-1"], ["1", "2"], []], ids=["text", "negative", "too many", "none"])
def test_invalid_route_is_logged_once_and_last_good_one_holds(
    settings: WorkerSettings,
    store: redis.Redis,
    target: HttpTarget,
    reads: Reads,
    weights: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second, _ = target.hosts
    put_route(store, {first: 1.0}, version=3)

    async def script() -> None:
        store.delete(f"routing:hosts:{SERVICE}", f"routing:weights:{SERVICE}")
        store.publish("routing:updates", SERVICE)  # a tool that writes key after key
        await reads.next()
        store.rpush(f"routing:hosts:{SERVICE}", second)
        if weights:
            store.rpush(f"routing:weights:{SERVICE}", *weights)
        for _ in range(3):
            store.publish("routing:updates", SERVICE)
            await reads.next()

    batches = run(settings, store, target, "f-nonsense", script)

    assert outcomes(batches) == {Outcome.COMPLETED}
    assert versions_by_host(batches) == {first: {3}}
    said = [entry.message for entry in caplog.records if "the last good one holds" in entry.message]
    assert len(said) == len(set(said)) == 2, "once of the lists that were gone, once of those that make no sense"
