"""A name with several addresses: connections to each, rows that tell them apart, and addresses that the name loses."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from loadgen.engine.end import STOPPED
from loadgen.engine.engine import Engine
from loadgen.engine.http.dialer import Dialer
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.trace_batch import endpoint_of, split_endpoint
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, play
from tests.support.http_target import HttpTarget

pytestmark = pytest.mark.slow

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
CLIENTS = 4


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses behind each name, which a test may change; they are looked up again after 50 ms."""
    addresses = [FIRST, SECOND]

    async def look_up(self: Dialer) -> None:
        self._look_up = None
        self._addresses = list(addresses)
        self._refusing.clear()
        self._resolved_at = self._loop.time()
        self._good_for_s = 0.05

    monkeypatch.setattr(Dialer, "_look_up_addresses", look_up)
    return addresses


def closed(target: HttpTarget) -> Engine:
    """Clients whose requests take 100 ms, so that each has a connection."""
    host = f"web.test:{target.port}"
    return build(host, model="closed", schedule=[[60, CLIENTS]], clients=CLIENTS, path="/mode/slow/x")


def connected(engine: Engine) -> Counter[str]:
    return Counter(connection.address for connection in engine._pool.connections)


async def until_connected(engine: Engine, addresses: dict[str, int]) -> None:
    async with asyncio.timeout(20):
        while connected(engine) != addresses:
            await asyncio.sleep(0.01)


def test_each_address_has_its_share_of_the_connections(run: Run[Result], target: HttpTarget, names: list[str]) -> None:
    async def during(engine: Engine) -> None:
        await until_connected(engine, {FIRST: CLIENTS // 2, SECOND: CLIENTS // 2})
        engine.stop(10**9, STOPPED)

    result = run(play(closed(target), during))
    endpoints = {row.host for row in result.rows if row.outcome == Outcome.COMPLETED}
    assert endpoints == {endpoint_of(f"web.test:{target.port}", address) for address in (FIRST, SECOND)}
    assert {split_endpoint(endpoint or "") for endpoint in endpoints} == {
        (f"web.test:{target.port}", FIRST),
        (f"web.test:{target.port}", SECOND),
    }


def test_connections_to_a_lost_address_serve_no_more_requests(
    run: Run[Result], target: HttpTarget, names: list[str]
) -> None:
    async def during(engine: Engine) -> None:
        await until_connected(engine, {FIRST: CLIENTS // 2, SECOND: CLIENTS // 2})
        names.remove(SECOND)
        await until_connected(engine, {FIRST: CLIENTS})
        names.append(SECOND)
        names.remove(FIRST)
        await until_connected(engine, {SECOND: CLIENTS})
        engine.stop(10**9, STOPPED)

    result = run(play(closed(target), during))
    assert set(result.outcomes()) == {Outcome.COMPLETED}  # no request was cut off


def test_a_failed_look_up_closes_no_connection(run: Run[Result], target: HttpTarget, names: list[str]) -> None:
    async def during(engine: Engine) -> None:
        await until_connected(engine, {FIRST: CLIENTS // 2, SECOND: CLIENTS // 2})
        names.clear()
        before = engine.counters.completed
        async with asyncio.timeout(20):
            while engine.counters.completed < before + 5 * CLIENTS:
                await asyncio.sleep(0.01)
        assert connected(engine) == {FIRST: CLIENTS // 2, SECOND: CLIENTS // 2}
        engine.stop(10**9, STOPPED)

    assert set(run(play(closed(target), during)).outcomes()) == {Outcome.COMPLETED}


def test_a_host_that_is_an_address_has_no_other(run: Run[Result], target: HttpTarget) -> None:
    result = run(play(build(target.host)))
    assert {row.host for row in result.rows} == {target.host}
