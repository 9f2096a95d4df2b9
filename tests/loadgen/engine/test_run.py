"""Whole runs: times, lateness, many clients, memory."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadgen.arrivals.distributions import EXPOVARIATE
from loadgen.arrivals.pacer import PRERECORDED, build_pacer
from loadgen.arrivals.schedule import Schedule
from loadgen.engine.end import FINISHED
from loadgen.engine.http.connection import Connection
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import request_id
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, account_closes, build, finish, play, unpack
from tests.support.http_target import ROOT, HttpTarget

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("process", "parameters"),
    [("constant", []), (EXPOVARIATE, []), ("gauss", [1.0, 0.2]), (PRERECORDED, [0.01, 0.1, 0.02, 0.1, 0.19])],
)
def test_intended_times_are_the_pacers(
    run: Run[Result], target: HttpTarget, process: str, parameters: list[float]
) -> None:
    spec = {"arrival_process": process, "arrival_parameters": parameters}
    result = run(play(build(target.host, rate=500, duration=0.2, clients=5, seed=9, **spec)))
    pacer = build_pacer(process, Schedule([(200_000_000, 500.0)]), range(5), 5, 9, 0, parameters)
    assert sorted((row.intended_ns, row.client, row.sequence) for row in result.rows) == sorted(pacer)
    assert set(result.outcomes()) == {Outcome.COMPLETED}


def test_a_shard_sends_its_own_clients_requests_only(run: Run[Result], target: HttpTarget) -> None:
    result = run(play(build(target.host, rate=500, duration=0.2, clients=2, total=5)))
    assert {row.client for row in result.rows} == {0, 1}
    assert len(result.rows) == 40


def test_arrivals_before_the_start_are_late(run: Run[Result], target: HttpTarget, group: str) -> None:
    async def scenario() -> Result:
        engine = build(target.host, group=group, rate=10, duration=3, max_lateness_s=1)
        await engine.prepare()
        engine.start(time.monotonic_ns() - 2_000_000_000)
        return await finish(engine)

    result = run(scenario())
    outcomes = result.outcomes()
    assert set(outcomes) == {Outcome.LATE, Outcome.COMPLETED}
    assert 10 <= outcomes[Outcome.LATE] < 30
    assert {row.intended_ns for row in result.rows if row.outcome == Outcome.LATE} == {
        50_000_000 + 100_000_000 * k for k in range(outcomes[Outcome.LATE])
    }
    assert sorted(target.ids(group)) == sorted(result.ids(group_id=group))


def test_a_blocked_loop_is_a_stall_and_its_arrivals_are_late(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = build(target.host, rate=100, duration=0.5, max_lateness_s=0.05)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        await asyncio.sleep(0.1)
        time.sleep(0.25)
        await asyncio.sleep(0.1)
        gauges = engine.take_gauges()
        assert gauges.stall.length_ns >= 200_000_000
        assert engine.take_gauges().stall.length_ns < gauges.stall.length_ns
        return await finish(engine)

    outcomes = run(scenario()).outcomes()
    assert set(outcomes) == {Outcome.LATE, Outcome.COMPLETED}
    assert sum(outcomes.values()) == 50


def test_a_thousand_clients_share_a_shard(run: Run[Result], target: HttpTarget, group: str) -> None:
    engine = build(
        *target.hosts, group=group, rate=500, duration=1, clients=1000, arrival_process=EXPOVARIATE, max_lateness_s=10
    )
    result = run(play(engine))
    assert result.outcomes() == {Outcome.COMPLETED: len(result.rows)}
    assert len({row.client for row in result.rows}) > 300
    assert sorted(target.ids(group)) == sorted(result.ids(group_id=group))


def test_ids_on_the_wire_are_those_that_the_rows_tell(run: Run[Result], target: HttpTarget, group: str) -> None:
    run(play(build(target.host, group=group, rate=50, duration=0.1, clients=1)))
    assert target.ids(group) == [request_id(group, 0, sequence) for sequence in range(5)]


def test_a_large_body_is_sent_whole_and_its_connection_kept(run: Run[Result], target: HttpTarget, group: str) -> None:
    kwargs = {"data": "x" * 3_000_000}
    engine = build(target.host, group=group, rate=10, duration=1, clients=1, method="POST", kwargs=kwargs)
    result = run(play(engine))
    assert result.outcomes() == {Outcome.COMPLETED: 10}
    assert len(target.ids(group)) == 10
    assert result.connections > 0


def test_an_unserved_address_falls_back_to_the_next_one(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        loop = asyncio.get_running_loop()
        engine = build(f"localhost:{target.port}")
        host = engine._pool.host(f"localhost:{target.port}", None)
        host._dialer._addresses = ["127.0.0.9", "127.0.0.1"]
        host._dialer._resolved_at = loop.time()
        result = await play(engine)
        assert host._dialer._refusing == {"127.0.0.9"}
        return result

    assert run(scenario()).outcomes() == {Outcome.COMPLETED: 20}


@pytest.mark.parametrize("mode", ["lastresponse", "eof", "reset", "garbage"])
def test_closed_connections_are_freed_without_the_collector(run: Run[None], target: HttpTarget, mode: str) -> None:
    def connections() -> int:
        # What was made after the start is not frozen, so it can be seen here.
        return sum(type(thing) is Connection for thing in gc.get_objects())

    async def scenario() -> None:
        # The time-outs' queue forgets a connection at the latest when its request would have timed out.
        schedule = [[0.2, 500], [30, 0]]
        engine = build(target.host, path=f"/mode/{mode}/x", schedule=schedule, request_timeout_s=0.2)
        await engine.prepare()
        engine.start(time.monotonic_ns())
        try:
            async with asyncio.timeout(20):
                while engine.counters.rows < 100 or connections() > 2:
                    await asyncio.sleep(0.1)
            assert not gc.isenabled()
        finally:
            await engine.close()
        assert gc.isenabled()

    run(scenario())


def test_two_engines_in_one_loop_do_not_mix_their_rows(run: Run[None], target: HttpTarget) -> None:
    async def scenario() -> None:
        engines = [build(target.host, group=name, rate=rate, duration=0.2) for name, rate in (("a", 100), ("b", 50))]
        for engine in engines:
            await engine.prepare()
            engine.start(time.monotonic_ns())
        for engine, planned in zip(engines, (20, 10), strict=True):
            assert await engine.wait() is FINISHED
            result = Result(unpack(*engine.take()), "", engine.counters)
            account_closes(result)
            assert len(result.rows) == planned
        for engine in engines:
            await engine.close()

    run(scenario())


def test_the_targets_log_file_is_written_when_it_ends(run: Run[Result], tmp_path: Path) -> None:
    with HttpTarget(log=tmp_path / "log") as target:
        result = run(play(build(target.host, rate=50, duration=0.1)))
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(line.split()[1] for line in lines) == sorted(result.ids())
    assert {tuple(line.split()[2:]) for line in lines} == {("GET", "/")}


def test_the_engine_needs_no_django() -> None:
    code = "import sys, loadgen.engine; assert 'django' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
