"""Arrivals go to hosts by weight, and each row knows host and routing version."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadgen.engine import Engine, Routes, build_routes
from loadgen.engine.end import STOPPED
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import SERVICE, Result, build, finish, play, record
from tests.support.http_target import HttpTarget
from tests.support.ids import begin_of


def routes_of(
    shard_index: int = 0, seed: int = 1, default_router: str = "host", default_static_host: str = "", **workload: Any
) -> Routes:
    spec = WorkloadSpec(0, SERVICE, [[1, 1]], **workload)
    return build_routes(spec, seed, shard_index, default_router, default_static_host)


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
def test_a_change_of_weights_applies_from_the_next_arrival(run: Run[Result], target: HttpTarget) -> None:
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


def test_a_removed_record_leaves_no_route_until_it_returns() -> None:
    routes = Routes(SERVICE)
    assert routes.next(0, 0) is None
    routes.update(record("a:1", version=7))
    assert (routes.next(0, 0), routes.version) == ("a:1", 7)
    routes.update(None)
    assert routes.next(0, 0) is None
    routes.update(record("a:1", weights=[0.0], version=8))
    assert (routes.next(0, 0), routes.version) == (None, 8)
    routes.update(record("b:1", version=9))
    assert routes.next(0, 0) == "b:1"


def test_only_the_service_router_prefixes_the_path() -> None:
    assert routes_of(router="host").base_url("pi:80") == "http://pi:80"
    assert routes_of(router="service").base_url("pi:80") == f"http://pi:80/{SERVICE}"
    assert routes_of(router="service", scheme="https").base_url("pi:80") == f"https://pi:80/{SERVICE}"


def test_a_workload_that_names_no_router_takes_the_workers() -> None:
    assert routes_of().base_url("pi:80") == "http://pi:80"
    assert routes_of(default_router="service").base_url("pi:80") == f"http://pi:80/{SERVICE}"
    assert routes_of(router="host", default_router="service").base_url("pi:80") == "http://pi:80"
    assert routes_of(default_router="static", default_static_host="http://pi:1/a").next(0, 0) == "pi:1"
    assert not routes_of(default_router="debug").sends


def test_the_static_router_ignores_the_record() -> None:
    routes = routes_of(router="static", static_host="http://pi:8080/prefix/", default_static_host="http://other")
    routes.update(record("a:1", version=7))
    routes.update(None)
    assert (routes.next(3, 4), routes.version) == ("pi:8080", 0)
    assert routes.base_url("pi:8080") == "http://pi:8080/prefix"


def test_the_random_balancer_agrees_across_shards() -> None:
    first, second = routes_of(0, balancer="random"), routes_of(5, balancer="random")
    again, other = routes_of(0, seed=1, balancer="random"), routes_of(0, seed=2, balancer="random")
    requests = [(client, sequence) for client in range(5) for sequence in range(20)]
    for routes in (first, second, again, other):
        routes.update(record("a:1", "b:1", "c:1"))
    picks = [first.next(*request) for request in requests]
    assert set(picks) == {"a:1", "b:1", "c:1"}
    assert [second.next(*request) for request in reversed(requests)] == picks[::-1]
    assert [again.next(*request) for request in requests] == picks
    assert [other.next(*request) for request in requests] != picks


@pytest.mark.slow
def test_random_hosts_are_those_that_each_request_draws(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = build(rate=500, duration=0.2, clients=4, balancer="random")
        engine.routes.update(record(*target.hosts, weights=[1, 2, 3]))
        return await play(engine)

    result = run(scenario())
    drawn = routes_of(balancer="random")
    drawn.update(record(*target.hosts, weights=[1, 2, 3]))
    assert len(result.rows) == 100
    assert all(row.host == drawn.next(row.client, row.sequence) for row in result.rows)
    assert {row.host for row in result.rows} == set(target.hosts)


@pytest.mark.slow
def test_the_static_router_reaches_the_wire_without_a_record(run: Run[Result], target: HttpTarget, group: str) -> None:
    place = f"http://{target.host}/prefix/"
    engine = build(group=group, router="static", static_host=place, path="/x", rate=50, duration=0.1)
    result = run(play(engine))
    assert result.outcomes() == {Outcome.COMPLETED: 5}
    assert {(row.host, row.routing_version) for row in result.rows} == {(target.host, 0)}
    assert {path for _, name, _, path in target.log() if name.startswith(begin_of(group))} == {"/prefix/x"}


@pytest.mark.slow
@pytest.mark.parametrize("connection", ["keep-alive", "new"])
def test_the_debug_router_answers_without_a_connection(run: Run[Result], connection: str) -> None:
    async def watch(engine: Engine) -> None:
        while engine.counters.planned < 50:
            assert engine.connections == 0
            await asyncio.sleep(0.005)

    result = run(play(build(router="debug", rate=500, duration=0.2, connection=connection), watch))
    assert result.outcomes() == {Outcome.COMPLETED: 100}
    assert {(row.host, row.status, row.size) for row in result.rows} == {("debughost", 200, 0)}


@pytest.mark.slow
def test_the_debug_router_works_in_the_closed_model(run: Run[Result]) -> None:
    workload = {"model": "closed", "schedule": [[5, 3]], "requests_per_client": 400}
    result = run(play(build(router="debug", clients=3, **workload)))
    assert Counter(row.client for row in result.rows) == {0: 400, 1: 400, 2: 400}
    assert result.outcomes() == {Outcome.COMPLETED: 1200}


@pytest.mark.slow
def test_the_debug_router_asks_client_apps_for_their_requests(run: Run[Result], tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "generator.py").write_text(
        "calls = 0\n\n"
        "def next_request():\n"
        "    global calls\n"
        "    calls += 1\n"
        "    return ('get', '/' if calls < 5 else 7, {})\n"
    )
    result = run(play(build(router="debug", client_app="app", apps_dir=tmp_path, clients=1, rate=100, duration=0.2)))
    assert result.outcomes()[Outcome.COMPLETED] == 4
    assert "endpoint" in result.reason


@pytest.mark.slow
def test_the_service_router_reaches_the_wire(run: Run[Result], target: HttpTarget, group: str) -> None:
    engine = build(target.host, group=group, router="service", path="/predict?x=1", rate=50, duration=0.1)
    assert run(play(engine)).outcomes() == {Outcome.COMPLETED: 5}
    seen = [path for _, name, _, path in target.log() if name.startswith(begin_of(group))]
    assert set(seen) == {f"/{SERVICE}/predict?x=1"}


@pytest.mark.slow
def test_hosts_that_left_the_route_are_forgotten_and_may_come_back(run: Run[Result], target: HttpTarget) -> None:
    first, second, third = target.hosts

    async def changes(engine: Engine) -> None:
        for hosts in ((first,), (second, third), (first, second)):
            async with asyncio.timeout(20):
                while set(engine._pool.hosts) != set(hosts):
                    engine.routes.update(record(*hosts))
                    await asyncio.sleep(0.01)
            assert set(engine._pool.fixed) == set(hosts)
        engine.stop(10**9, STOPPED)

    result = run(play(build(first, second, third, rate=200, duration=60), changes))
    assert set(result.outcomes()) == {Outcome.COMPLETED, Outcome.CUT}
    assert {row.host for row in result.rows if row.outcome == Outcome.COMPLETED} == {first, second, third}
