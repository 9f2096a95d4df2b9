"""Interactive loads: commands that follow one another."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from loadgen.engine import Engine
from loadgen.engine.end import STOPPED
from loadgen.engine.executors.interactive import InteractiveExecutor
from loadgen.protocol.enums import CommandKind
from loadgen.protocol.messages import GroupCommand
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, finish
from tests.support.http_target import HttpTarget

pytestmark = pytest.mark.slow

MS = 1_000_000


def interactive(*hosts: str, clients: int = 4, total: int | None = None, **workload: Any) -> Engine:
    return build(*hosts, clients=clients, total=total, model="interactive", schedule=[], **workload)


async def started(engine: Engine) -> int:
    """Starts an engine; returns the schedule's zero."""
    await engine.prepare()
    start_ns = time.monotonic_ns()
    engine.start(start_ns)
    return start_ns


def command(engine: Engine, number: int, at_ns: int, total: int = 4, **fields: Any) -> None:
    engine.begin_command(GroupCommand(number, 0, **fields), at_ns, range(total))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def stopped(engine: Engine) -> Result:
    engine.stop(1_000 * MS, STOPPED)
    return await finish(engine)


def test_a_rate_command_sets_the_rate_of_each_client(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> tuple[int, Result]:
        engine = interactive(target.host)
        zero_ns = await started(engine)
        command(engine, 1, zero_ns + 50 * MS, rate_rps=50.0)
        await asyncio.sleep(0.1)
        command(engine, 2, zero_ns + 250 * MS, rate_rps=100.0)
        command(engine, 3, zero_ns + 450 * MS, rate_rps=0.0)
        await asyncio.sleep(0.6)
        return engine.commands[0], await stopped(engine)

    begun, result = run(scenario())
    assert begun == 3
    first = [row for row in result.rows if row.intended_ns < 250 * MS]
    second = [row for row in result.rows if row.intended_ns >= 250 * MS]
    assert Counter(row.client for row in first) == dict.fromkeys(range(4), 10)
    assert Counter(row.client for row in second) == dict.fromkeys(range(4), 20)
    assert min(row.intended_ns for row in first) >= 50 * MS
    assert max(row.intended_ns for row in second) < 450 * MS
    assert set(result.outcomes()) == {Outcome.COMPLETED}


def test_a_late_command_ends_the_previous_at_its_own_time(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = interactive(target.host, clients=1)
        zero_ns = await started(engine)
        command(engine, 1, zero_ns, rate_rps=100.0, total=1)
        await asyncio.sleep(0.2)
        command(engine, 2, time.monotonic_ns() - 20 * MS, rate_rps=0.0, total=1)
        await asyncio.sleep(0.1)
        return await stopped(engine)

    assert 17 <= len(run(scenario()).rows) <= 25


def test_a_backlog_does_not_delay_the_next_command(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> tuple[int, Result]:
        engine = interactive(target.host, clients=1, max_lateness_s=0.1)
        zero_ns = await started(engine)
        # A million requests at one moment.
        command(engine, 1, zero_ns, total=1, kind=CommandKind.GAPS, requests=1_000_000, parameters=[0.0])
        await asyncio.sleep(0.1)
        command(engine, 2, time.monotonic_ns(), total=1)
        await until(lambda: engine.commands[0] == 2)
        rows = engine.counters.rows
        await asyncio.sleep(0.3)
        return rows, await stopped(engine)

    rows, result = run(scenario())
    assert len(result.rows) < 500_000
    assert len(result.rows) - rows < 2000


def test_a_command_ended_by_another_is_not_done(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> tuple[tuple[int, list[int]], Result]:
        engine = interactive(target.host)
        zero_ns = await started(engine)
        command(engine, 1, zero_ns, kind=CommandKind.GAPS, requests=5, parameters=[10.0])
        await asyncio.sleep(0.05)
        command(engine, 2, time.monotonic_ns() + 100 * MS, rate_rps=10.0)
        await until(lambda: engine.commands[0] == 2)
        return engine.commands, await stopped(engine)

    assert run(scenario())[0] == (2, [])


def test_a_command_with_gaps_is_done_after_its_requests(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> tuple[list[tuple[int, list[int]]], Result]:
        engine = interactive(target.host)
        zero_ns = await started(engine)
        seen = [engine.commands]
        command(engine, 1, zero_ns, kind=CommandKind.GAPS, requests=5, distribution="expovariate", parameters=[100.0])
        await until(lambda: 1 in engine.commands[1])
        command(
            engine,
            2,
            time.monotonic_ns(),
            kind=CommandKind.GAPS,
            requests=3,
            distribution="constant",
            parameters=[0.01],
        )
        await until(lambda: 2 in engine.commands[1])
        return [*seen, engine.commands], await stopped(engine)

    seen, result = run(scenario())
    assert seen == [(0, []), (2, [1, 2])]
    assert Counter(row.client for row in result.rows) == dict.fromkeys(range(4), 8)
    assert len({(row.client, row.sequence) for row in result.rows}) == 32


def test_clients_of_one_constant_gap_do_not_fire_together(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = interactive(target.host)
        zero_ns = await started(engine)
        command(engine, 1, zero_ns, kind=CommandKind.GAPS, requests=2, distribution="constant", parameters=[0.08])
        await until(lambda: 1 in engine.commands[1])
        return await stopped(engine)

    intended = sorted(row.intended_ns // MS for row in run(scenario()).rows)
    assert min(later - earlier for earlier, later in pairwise(intended)) >= 10
    assert len(intended) == 8
    assert intended[-1] < 160


def test_recorded_gaps_are_gone_through_by_each_client(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = interactive(target.host, clients=2)
        zero_ns = await started(engine)
        gaps = [0.01, 0.0, 0.02]
        command(engine, 1, zero_ns, total=2, kind=CommandKind.GAPS, distribution="prerecorded", parameters=gaps)
        await until(lambda: 1 in engine.commands[1])
        return await stopped(engine)

    intended = sorted((row.client, row.intended_ns // MS) for row in run(scenario()).rows)
    assert intended == [(0, 10), (0, 10), (0, 30), (1, 10), (1, 10), (1, 30)]


def test_each_client_replays_its_own_recorded_gaps(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = interactive(target.host, clients=3)
        zero_ns = await started(engine)
        gaps = {"kind": CommandKind.GAPS, "distribution": "prerecorded", "requests": 2}
        command(engine, 1, zero_ns, total=3, recorded={"0": [0.01, 0.02, 0.5], "2": [0.04]}, **gaps)
        await until(lambda: 1 in engine.commands[1])
        # A shard may have none of the clients that do: it is done at once.
        command(engine, 2, time.monotonic_ns(), total=3, recorded={"7": [5.0]}, **gaps)
        await until(lambda: 2 in engine.commands[1])
        return await stopped(engine)

    intended = sorted((row.client, row.intended_ns // MS) for row in run(scenario()).rows)
    assert intended == [(0, 10), (0, 30), (2, 40)]


def test_back_to_back_each_client_sends_exactly_its_requests(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = interactive(target.host)
        zero_ns = await started(engine)
        command(engine, 1, zero_ns, kind=CommandKind.BACK_TO_BACK, requests=25)
        await until(lambda: 1 in engine.commands[1])
        command(engine, 2, time.monotonic_ns(), kind=CommandKind.BACK_TO_BACK, requests=5)
        await until(lambda: 2 in engine.commands[1])
        return await stopped(engine)

    result = run(scenario())
    assert Counter(row.client for row in result.rows) == dict.fromkeys(range(4), 30)
    assert len({(row.client, row.sequence) for row in result.rows}) == 120


def test_earlier_requests_do_not_count_for_the_next_command(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = interactive(target.host, path="/mode/slow/")
        zero_ns = await started(engine)
        command(engine, 1, zero_ns, kind=CommandKind.BACK_TO_BACK)
        await until(lambda: engine.in_flight == 4)
        command(engine, 2, time.monotonic_ns(), kind=CommandKind.BACK_TO_BACK, requests=2)
        await until(lambda: 2 in engine.commands[1])
        return await stopped(engine)

    result = run(scenario())
    last = [row for row in result.rows if row.sequence >= min(r.sequence for r in result.rows if r.intended_ns) + 1]
    assert Counter(row.client for row in last) == dict.fromkeys(range(4), 2)


def test_a_smaller_group_continues_with_the_remaining_clients(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = interactive(target.host)
        zero_ns = await started(engine)
        command(engine, 1, zero_ns, rate_rps=50.0)
        command(engine, 2, zero_ns + 100 * MS, total=1, rate_rps=50.0)
        command(engine, 3, zero_ns + 200 * MS, total=0)
        return await finish(engine)

    result = run(scenario())
    assert result.reason == ""
    assert Counter(row.client for row in result.rows) == {0: 10, 1: 5, 2: 5, 3: 5}


@pytest.mark.parametrize(
    "fields",
    [
        {"rate_rps": 50.0},
        {"kind": CommandKind.GAPS, "distribution": "constant", "parameters": [0.02]},
        {"kind": CommandKind.BACK_TO_BACK},
    ],
)
def test_closed_clients_stop_and_the_others_continue(
    run: Run[Result], target: HttpTarget, fields: dict[str, Any]
) -> None:
    async def scenario() -> tuple[int, Result]:
        engine = interactive(target.host)
        zero_ns = await started(engine)
        command(engine, 1, zero_ns, **fields)
        await asyncio.sleep(0.2)
        engine.keep_clients([0, 2])
        closed_ns = time.monotonic_ns() - zero_ns
        await asyncio.sleep(0.2)
        engine.keep_clients([])
        return closed_ns, await finish(engine)

    closed_ns, result = run(scenario())
    assert result.reason == ""
    later = [row for row in result.rows if row.intended_ns > closed_ns]
    assert {row.client for row in later} == {0, 2}
    assert len(later) >= 16


def test_an_older_command_is_ignored(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = interactive(target.host)
        zero_ns = await started(engine)
        command(engine, 2, zero_ns)
        command(engine, 1, zero_ns, rate_rps=1000.0)
        await asyncio.sleep(0.1)
        return await stopped(engine)

    assert run(scenario()).rows == []


def test_a_stop_records_no_rows_for_unreached_commands(run: Run[Result], target: HttpTarget) -> None:
    async def scenario() -> Result:
        engine = interactive(target.host)
        zero_ns = await started(engine)
        command(engine, 1, zero_ns, kind=CommandKind.GAPS, requests=1000, distribution="constant", parameters=[0.02])
        await asyncio.sleep(0.2)
        return await stopped(engine)

    result = run(scenario())
    assert 30 <= len(result.rows) <= 60
    assert set(result.outcomes()) == {Outcome.COMPLETED}
    assert result.reason == "stopped"


@pytest.mark.parametrize(
    ("message", "unbounded"),
    [
        (GroupCommand(1, 0, kind=CommandKind.RATE, rate_rps=1.0), True),
        (GroupCommand(1, 0, kind=CommandKind.RATE), False),
        (GroupCommand(1, 0, kind=CommandKind.GAPS, parameters=[1.0]), True),
        (GroupCommand(1, 0, kind=CommandKind.GAPS, parameters=[1.0], requests=3), False),
        (GroupCommand(1, 0, kind=CommandKind.GAPS, distribution="prerecorded", parameters=[1.0]), False),
        (GroupCommand(1, 0, kind=CommandKind.GAPS, distribution="prerecorded", recorded={"0": [1.0]}), False),
        (GroupCommand(1, 0, kind=CommandKind.BACK_TO_BACK), True),
        (GroupCommand(1, 0, kind=CommandKind.BACK_TO_BACK, requests=1), False),
    ],
)
def test_a_command_without_an_end_is_unbounded(message: GroupCommand, unbounded: bool) -> None:
    assert message.is_unbounded is unbounded


def test_a_pause_after_an_unsent_request_delays_no_command(run: Run[Result]) -> None:
    async def scenario() -> Result:
        engine = interactive("127.0.0.1:1", clients=1)  # refuses: the client tries again after a tenth of a second
        assert isinstance(engine._executor, InteractiveExecutor)
        wake, woken_ns = engine._executor._arm, list[int]()

        def wake_and_note(at_ns: int | None) -> None:
            woken_ns.append(at_ns or 0)
            wake(at_ns)

        engine._executor._arm = wake_and_note
        zero_ns = await started(engine)
        command(engine, 1, zero_ns, kind=CommandKind.BACK_TO_BACK)
        command(engine, 2, zero_ns + 50 * MS, rate_rps=0.0)
        told = len(woken_ns)
        await until(lambda: engine.commands[0] == 2)
        assert len(woken_ns) > told
        assert max(woken_ns) <= zero_ns + 50 * MS
        return await stopped(engine)

    assert run(scenario()).outcomes() == {Outcome.CONNECT_REFUSED: 1}
