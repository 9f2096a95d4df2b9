"""The closed model: each client waits for its response, thinks, and sends its next request."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loadgen.engine.end import STOPPED
from loadgen.engine.engine import ATTEMPT_SEQUENCE_BITS
from loadgen.engine.executors.closed import UNSENT_PAUSE_NS, ClosedClient, ClosedPlan
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, Row, build, finish, play, unpack
from tests.support.http_target import HttpTarget

MS = 1_000_000


def closed(*hosts: str, clients: int = 4, steps: list[list[float]] | None = None, **workload: Any) -> Any:
    return build(*hosts, clients=clients, total=clients, model="closed", schedule=steps or [[0.3, clients]], **workload)


def by_client(rows: list[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.client, row.sequence)):
        found[row.client].append(row)
    return found


def plan(steps: list[list[float]], **workload: Any) -> ClosedPlan:
    return ClosedPlan(WorkloadSpec(index=0, service="s", schedule=steps, model="closed", **workload), range(8), seed=1)


def test_a_client_is_active_in_steps_with_more_clients() -> None:
    second = 1_000_000_000
    steps = plan([[1, 2], [2, 4], [1, 1], [1, 0], [1, 3]])

    def active(client: int) -> list[int]:
        """The half seconds in which it may send."""
        following = ClosedClient(client, steps, 0)
        moments = [second // 4 + half * second // 2 for half in range(12)]
        return [at_ns // (second // 2) for at_ns in moments if following.next_at(at_ns) == at_ns]

    assert active(0) == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]
    assert active(1) == [0, 1, 2, 3, 4, 5, 10, 11]
    assert active(2) == [2, 3, 4, 5, 10, 11]
    assert active(3) == [2, 3, 4, 5]
    assert active(4) == []


def test_a_client_that_is_not_active_waits_for_its_next_step() -> None:
    client = ClosedClient(2, plan([[1, 2], [2, 4], [1, 1], [1, 3]]), 0)
    second = 1_000_000_000
    assert client.next_at(0) == second
    assert client.next_at(3 * second) == 4 * second
    assert client.next_at(5 * second) is None


def test_a_clients_think_times_are_its_own_wherever_it_is_placed() -> None:
    def drawn(client: int) -> list[float]:
        draw = plan([[1, 8]], think_time="expovariate", think_time_parameters=[2.0]).think_time(client)
        assert draw is not None
        return [draw() for _ in range(5)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


@pytest.mark.slow
class TestRuns:
    def test_a_client_has_at_most_one_request_in_flight(self, run: Run[Result], target: HttpTarget, group: str) -> None:
        result = run(play(closed(target.host, clients=4, group=group)))
        assert set(result.outcomes()) == {Outcome.COMPLETED}
        clients = by_client(result.rows)
        assert sorted(clients) == [0, 1, 2, 3]
        for rows in clients.values():
            assert [row.sequence for row in rows] == list(range(len(rows)))
            assert len(rows) > 10
            for before, after in pairwise(rows):
                assert before.done_ns <= after.intended_ns <= after.dispatched_ns
        assert sorted(target.ids(group)) == sorted(result.ids(group_id=group))

    def test_a_client_thinks_between_response_and_request(self, run: Run[Result], target: HttpTarget) -> None:
        result = run(play(closed(target.host, clients=3, think_time_parameters=[0.02])))
        for rows in by_client(result.rows).values():
            assert 3 <= len(rows) <= 15
            for before, after in pairwise(rows):
                assert after.intended_ns - before.done_ns >= 20 * MS

    def test_clients_come_and_go_with_the_schedule(self, run: Run[Result], target: HttpTarget) -> None:
        steps = [[0.1, 1.0], [0.1, 3.0], [0.1, 0.0], [0.1, 2.0]]
        result = run(play(closed(target.host, clients=3, steps=steps, think_time_parameters=[0.005])))
        active = {
            step: {row.client for row in result.rows if step * 100 * MS <= row.intended_ns < (step + 1) * 100 * MS}
            for step in range(4)
        }
        assert active == {0: {0}, 1: {0, 1, 2}, 2: set(), 3: {0, 1}}
        assert max(row.intended_ns for row in result.rows) < 400 * MS

    def test_requests_per_client_ends_the_load_exactly(self, run: Run[Result], target: HttpTarget, group: str) -> None:
        began = time.monotonic()
        engine = closed(target.host, clients=5, steps=[[60.0, 5.0]], requests_per_client=7, group=group)
        result = run(play(engine))
        assert time.monotonic() - began < 30
        assert {client: len(rows) for client, rows in by_client(result.rows).items()} == dict.fromkeys(range(5), 7)
        assert len(target.ids(group)) == 35
        assert result.reason == ""

    def test_a_refusing_target_is_asked_again_after_a_pause(self, run: Run[Result]) -> None:
        result = run(play(closed("127.0.0.1:1", clients=2, steps=[[0.35, 2.0]])))
        assert set(result.outcomes()) == {Outcome.CONNECT_REFUSED}
        for rows in by_client(result.rows).values():
            assert 2 <= len(rows) <= 4
            for before, after in pairwise(rows):
                assert after.intended_ns - before.dispatched_ns >= UNSENT_PAUSE_NS

    def test_without_a_route_clients_wait_too(self, run: Run[Result]) -> None:
        result = run(play(closed(clients=2, steps=[[0.35, 2.0]])))
        assert set(result.outcomes()) == {Outcome.NO_ROUTE}
        assert 4 <= len(result.rows) <= 8

    def test_many_clients_without_a_route_wait_all_the_same(self, run: Run[Result]) -> None:
        result = run(play(closed(clients=1500, steps=[[0.2, 1500.0]])))
        assert result.reason == ""
        assert {row.client for row in result.rows} == set(range(1500))

    def test_closing_a_running_engine_sends_nothing_more(self, run: Run[Any], target: HttpTarget) -> None:
        async def scenario() -> int:
            engine = closed(target.host, clients=5, steps=[[60.0, 5.0]], path="/mode/hang/")
            await engine.prepare()
            engine.start(time.monotonic_ns())
            while engine.counters.sent < 5:
                await asyncio.sleep(0.01)
            await engine.close()
            return len(unpack(*engine.take()))

        assert run(scenario()) == 5

    def test_a_time_out_ends_a_request_and_its_client_goes_on(self, run: Run[Result], target: HttpTarget) -> None:
        engine = closed(target.host, clients=2, path="/mode/hang/", request_timeout_s=0.1, requests_per_client=2)
        result = run(play(engine))
        assert result.outcomes() == {Outcome.TIMEOUT: 4}

    def test_a_stop_cuts_nothing_in_the_closed_model(self, run: Run[Result], target: HttpTarget) -> None:
        async def stop(engine: Any) -> None:
            await asyncio.sleep(0.2)
            engine.stop(100 * MS, STOPPED)

        result = run(play(closed(target.host, clients=3, steps=[[60.0, 3.0]], path="/mode/slow/"), stop))
        assert result.reason == "stopped"
        assert set(result.outcomes()) <= {Outcome.COMPLETED, Outcome.ABORTED}
        assert len(result.rows) >= 3

    def test_an_app_that_fails_amid_the_load_ends_it(
        self, run: Run[Result], target: HttpTarget, tmp_path: Path
    ) -> None:
        app = tmp_path / "failing"
        app.mkdir()
        (app / "generator.py").write_text(
            "calls = 0\n"
            "def next_request():\n"
            "    global calls\n"
            "    calls += 1\n"
            "    assert calls < 4, 'enough'\n"
            "    return 'GET', '/'\n"
        )
        engine = closed(target.host, clients=2, steps=[[60.0, 2.0]], client_app="failing", apps_dir=tmp_path)
        result = run(play(engine))
        assert "enough" in result.reason
        assert result.outcomes()[Outcome.CUT] == 1

    def test_an_attempt_that_takes_over_repeats_no_request_id(self, run: Run[Result], target: HttpTarget) -> None:
        async def scenario() -> Result:
            engine = closed(target.host, clients=2, attempt=2, requests_per_client=3)
            await engine.prepare()
            engine.start(time.monotonic_ns() - 100 * MS)
            return await finish(engine)

        result = run(scenario())
        first = 1 << ATTEMPT_SEQUENCE_BITS
        assert {row.sequence for row in result.rows} == {first, first + 1, first + 2}
        assert min(row.intended_ns for row in result.rows) >= 100 * MS
