"""Arrivals go to hosts by weight, and each row knows host and routing version."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from loadgen.engine import Routes
from loadgen.messages import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import SERVICE, Result, build, finish, play, record
from tests.support.http_target import HttpTarget


@pytest.mark.slow
@pytest.mark.parametrize("shard_index", [0, 1, 2, 5])
def test_hosts_get_their_share_within_one_request(run: Run[Result], target: HttpTarget, shard_index: int) -> None:
    async def scenario() -> Result:
        engine = build(rate=500, duration=0.2, shard_index=shard_index)
        engine.routes.update(record(*target.hosts, weights=[1, 2, 3]))
        return await play(engine)

    result = run(scenario())
    assert result.outcomes() == {Outcome.COMPLETED: 100}
    shares = Counter(row.host for row in result.rows)
    for host, share in zip(target.hosts, (100 / 6, 200 / 6, 300 / 6), strict=True):
        assert abs(shares[host] - share) < 1


@pytest.mark.slow
def test_a_change_of_weights_is_obeyed_from_the_next_arrival_on(run: Run[Result], target: HttpTarget) -> None:
    first, second, _ = target.hosts

    async def scenario() -> Result:
        engine = build(rate=200, duration=0.5)
        engine.routes.update(record(first, version=4))
        await engine.prepare()
        engine.start(time.monotonic_ns())
        while engine.counters.planned < 30:
            await asyncio.sleep(0.005)
        planned = engine.counters.planned
        engine.routes.update(record(second, version=5))
        result = await finish(engine)
        result.rows.sort(key=lambda row: row.intended_ns)
        assert [row.routing_version for row in result.rows] == [4] * planned + [5] * (100 - planned)
        return result

    result = run(scenario())
    assert result.outcomes() == {Outcome.COMPLETED: 100}
    assert {(row.routing_version, row.host) for row in result.rows} == {(4, first), (5, second)}


@pytest.mark.slow
def test_connections_to_a_host_without_a_route_are_closed(run: Run[None], target: HttpTarget) -> None:
    async def scenario() -> None:
        engine = build(target.host, rate=200, duration=0.1)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        await engine.wait()
        assert engine.connections > 0
        engine.routes.update(record("127.0.0.9:1"))
        for _ in range(3):
            await asyncio.sleep(0.01)
        assert engine.connections == 0
        await engine.close()

    run(scenario())


def test_a_removed_record_leaves_no_route_until_there_is_one_again() -> None:
    routes = Routes(SERVICE)
    assert routes.next() is None
    routes.update(record("a:1", version=7))
    assert (routes.next(), routes.version) == ("a:1", 7)
    routes.update(None)
    assert routes.next() is None
    routes.update(record("a:1", weights=[0.0], version=8))
    assert (routes.next(), routes.version) == (None, 8)
    routes.update(record("b:1", version=9))
    assert routes.next() == "b:1"


def test_the_host_router_keeps_the_path_and_the_service_router_puts_the_service_before_it() -> None:
    assert Routes("resnet").base_url("pi:80") == "http://pi:80"
    assert Routes("resnet", router="service").base_url("pi:80") == "http://pi:80/resnet"
    with pytest.raises(ValueError, match="router"):
        Routes("resnet", router="random")


@pytest.mark.slow
def test_the_service_router_reaches_the_wire(run: Run[Result], target: HttpTarget, group: str) -> None:
    engine = build(target.host, group=group, router="service", path="/predict?x=1", rate=50, duration=0.1)
    assert run(play(engine)).outcomes() == {Outcome.COMPLETED: 5}
    seen = [path for _, name, _, path in target.log() if name.startswith(f"{group}.")]
    assert set(seen) == {f"/{SERVICE}/predict?x=1"}
