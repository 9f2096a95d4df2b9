"""A stop in any phase leaves a row for each planned arrival, and nothing open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from loadgen.engine import Engine
from loadgen.engine.end import CLOSED, STOPPED, End, failed
from loadgen.protocol.enums import ShardState
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import request_id
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, finish, play, unpack
from tests.support.http_target import HttpTarget

pytestmark = pytest.mark.slow

LEASE_EXPIRED = End(ShardState.LOST, "lease expired")
FAR_NS = 3_600_000_000_000
LONG_GRACE_NS = 5_000_000_000


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("prepared", [False, True])
def test_a_stop_before_the_start_cuts_the_whole_plan(run: Run[Result], target: HttpTarget, prepared: bool) -> None:
    async def scenario() -> Result:
        engine = build(target.host, rate=1000, duration=5, clients=7)
        if prepared:
            await engine.prepare()
        engine.stop(LONG_GRACE_NS, STOPPED)
        engine.start(time.monotonic_ns())  # comes too late, and is ignored
        return await finish(engine)

    result = run(scenario())
    assert result.reason == "stopped"
    assert result.outcomes() == {Outcome.CUT: 5000}
    assert len({(row.client, row.sequence) for row in result.rows}) == 5000


def test_a_stop_before_the_first_arrival_cuts_the_whole_plan(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = build(target.host)
        await engine.prepare()
        engine.start(time.monotonic_ns() + FAR_NS)
        engine.stop(0, STOPPED)
        return await finish(engine)

    assert run(scenario()).outcomes() == {Outcome.CUT: 20}


def test_a_stop_sends_nothing_more_and_cuts_the_rest(run: Run[Result], target: HttpTarget, group: str) -> None:
    async def scenario() -> Result:
        engine = build(target.host, group=group, rate=200, duration=60)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        await until(lambda: engine.counters.completed >= 20)
        engine.stop(LONG_GRACE_NS, STOPPED)
        sent = engine.counters.sent
        engine.stop(0, failed("stopped again"))
        result = await finish(engine)
        assert result.counters.sent == sent
        return result

    result = run(scenario())
    outcomes = result.outcomes()
    assert result.reason == "stopped"
    assert len(result.rows) == 200 * 60
    assert outcomes[Outcome.CUT] == 200 * 60 - result.counters.sent
    assert sorted(target.ids(group)) == sorted(result.ids(group_id=group))


def test_a_stop_gives_requests_in_flight_their_grace(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = build(target.host, path="/mode/slow/x", rate=200, duration=60)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        await until(lambda: engine.counters.sent >= 10)
        engine.stop(LONG_GRACE_NS, STOPPED)
        assert engine.in_flight > 0
        return await finish(engine)

    outcomes = run(scenario()).outcomes()
    assert set(outcomes) == {Outcome.COMPLETED, Outcome.CUT}


def test_after_the_grace_requests_in_flight_are_aborted(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = build(target.host, path="/mode/hang/x")
        await engine.prepare()
        engine.start(time.monotonic_ns())
        await until(lambda: engine.counters.sent == 20)
        engine.stop(20_000_000, STOPPED)  # while the plan's end waits for the last responses
        return await finish(engine)

    result = run(scenario())
    assert result.reason == "stopped"
    assert result.outcomes() == {Outcome.ABORTED: 20}


def test_an_arrival_queued_at_the_stop_is_cut(run: Run[Result]) -> None:
    async def scenario() -> Result:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise AssertionError("nothing connects before the stop")

        server = await asyncio.start_server(never, "127.0.0.1", 0)
        engine = build(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", rate=1000, duration=0.05)
        await engine.prepare()
        engine.start(time.monotonic_ns() - 500_000_000)  # all of it is due, and nothing was accepted yet
        while engine.in_flight < 50:
            engine._dispatch()
        assert engine.in_flight == 50
        engine.stop(0, STOPPED)
        assert engine.in_flight == 0
        result = await finish(engine)
        server.close()
        return result

    result = run(scenario())
    assert result.outcomes() == {Outcome.CUT: 50}
    assert all(row.dispatched_ns >= 0 for row in result.rows)


def test_closing_a_running_engine_records_each_request(run: Run[None], target: HttpTarget) -> None:
    async def scenario() -> None:
        engine = build(target.host, path="/mode/hang/x", rate=200, duration=60)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        await until(lambda: engine.counters.sent >= 10)
        await engine.close()
        counters = engine.counters
        assert counters.rows == counters.planned
        assert counters.errors == counters.sent
        assert engine.connections == 0
        assert await engine.wait() is CLOSED

    run(scenario())


def test_a_plan_ends_with_its_schedule_and_an_empty_reason(run: Run[Result], target: HttpTarget) -> None:
    result = run(play(build(target.host, schedule=[[0.1, 100], [0.1, 0]])))
    assert result.reason == ""
    assert result.outcomes() == {Outcome.COMPLETED: 10}


def test_a_schedule_without_arrivals_ends_without_rows(run: Run[Result], target: HttpTarget) -> None:
    assert run(play(build(target.host, rate=0, duration=0.05))).rows == []


def test_an_engine_is_started_once(run: Run[None], target: HttpTarget) -> None:
    async def scenario() -> None:
        engine = build(target.host)
        engine.start(time.monotonic_ns())
        with pytest.raises(RuntimeError, match="called twice"):
            engine.start(time.monotonic_ns())
        await engine.close()

    run(scenario())


def test_taking_rows_while_it_runs_loses_and_doubles_none(run: Run[None], target: HttpTarget, group: str) -> None:
    async def scenario() -> None:
        engine: Engine = build(*target.hosts, group=group, rate=500, duration=0.5)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        ids = []
        while engine.counters.rows < 250:
            ids += [request_id(group, row.client, row.sequence) for row in unpack(*engine.take())]
            await asyncio.sleep(0.02)
        await engine.wait()
        ids += [request_id(group, row.client, row.sequence) for row in unpack(*engine.take())]
        await engine.close()
        assert sorted(ids) == sorted(target.ids(group))
        assert len(ids) == 250

    run(scenario())


def test_the_rest_of_a_very_long_plan_is_cut_without_a_row_each(
    run: Run[Result], target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.engine.plan_cut.MAX_CUT_ROWS", 2000)

    async def scenario() -> Result:
        engine = build(target.host, rate=1000, duration=5)
        await engine.prepare()
        engine.stop(0, STOPPED)
        return await finish(engine)

    result = run(scenario())
    assert result.outcomes() == {Outcome.CUT: 2000}
    assert result.counters.cut_short
    assert result.counters.planned == 2000


async def take_over(engine: Engine, begun_ago_ns: int) -> Result:
    """As a shard's later attempt does it, of a load that began some time ago."""
    await engine.prepare()
    start_ns = time.monotonic_ns() - begun_ago_ns
    while engine.skip_passed(start_ns, 7):
        await asyncio.sleep(0)
    engine.start(start_ns)
    return await finish(engine)


def test_a_takeover_skips_passed_arrivals_and_sends_the_rest(run: Run[Result], target: HttpTarget, group: str) -> None:
    async def scenario() -> Result:
        engine = build(target.host, group=group, rate=100, duration=1.0, clients=3)
        return await take_over(engine, 500_000_000)

    result = run(scenario())
    skipped = result.counters.skipped
    assert 50 <= skipped < 100
    assert [(row.client, row.sequence) for row in result.rows] == [(k % 3, k // 3) for k in range(skipped, 100)]
    assert result.outcomes() == {Outcome.COMPLETED: 100 - skipped}


def test_a_takeover_after_the_plans_end_sends_nothing(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = build(target.host, rate=100, duration=1.0)
        return await take_over(engine, 2_000_000_000)

    result = run(scenario())
    assert (result.reason, result.counters.skipped, result.rows) == ("", 100, [])


def test_send_until_stops_the_engine_without_cutting_the_rest(run: Run[Result], target: HttpTarget, group: str) -> None:
    async def scenario() -> Result:
        engine = build(target.host, group=group, rate=200, duration=60)
        await engine.prepare()
        start_ns = time.monotonic_ns()
        engine.start(start_ns)
        engine.send_until(start_ns + 300_000_000, LEASE_EXPIRED)
        return await finish(engine)

    result = run(scenario())
    assert result.reason == "lease expired"
    assert Outcome.CUT not in result.outcomes()
    assert all(row.sent_ns < 300_000_000 + 2_000_000 for row in result.rows)
    assert sorted(target.ids(group)) == sorted(result.ids(group_id=group))


def test_a_process_resumed_after_send_until_sends_nothing(run: Run[Result], target: HttpTarget, group: str) -> None:
    async def scenario() -> Result:
        engine = build(target.host, group=group, rate=200, duration=60)
        await engine.prepare()
        start_ns = time.monotonic_ns()
        engine.send_until(start_ns + 300_000_000, LEASE_EXPIRED)
        engine.start(start_ns)
        await asyncio.sleep(0.1)
        time.sleep(0.6)  # as SIGSTOP does: the loop stands still
        return await finish(engine)

    result = run(scenario())
    assert max(row.intended_ns for row in result.rows) < 300_000_000
    assert sorted(target.ids(group)) == sorted(result.ids(group_id=group))


def test_an_arrival_queued_at_send_until_is_cut(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = build(target.host, rate=10, duration=0.1, clients=1)
        await engine.prepare()
        start_ns = time.monotonic_ns() - 50_000_000
        engine.start(start_ns)
        while not engine.in_flight:
            await asyncio.sleep(0)
        engine.send_until(time.monotonic_ns(), LEASE_EXPIRED)  # before its connection is there
        return await finish(engine)

    result = run(scenario())
    assert result.outcomes() == {Outcome.CUT: 1}
