"""How connections are shared: new ones, few ones, and what becomes of who waits for one."""

from __future__ import annotations

from typing import Any

import pytest

from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, play
from tests.support.http_target import HttpTarget

pytestmark = pytest.mark.slow


def test_with_new_connections_none_serves_twice(run: Run[Result], target: HttpTarget, group: str) -> None:
    before = target.connections()  # each question of this kind needs one of its own
    result = run(play(build(target.host, rate=100, duration=0.3, group=group, connection="new")))
    assert result.outcomes() == {Outcome.COMPLETED: 30}
    assert target.connections() - before == 30 + 1
    assert result.connections == 0


def test_who_finds_no_connection_and_may_open_none_waits(run: Run[Result], target: HttpTarget) -> None:
    before = target.connections()
    settings: dict[str, Any] = {"path": "/mode/slow/", "max_connections_per_host": 2}
    result = run(play(build(target.host, rate=50, duration=0.2, **settings)))
    assert result.outcomes() == {Outcome.COMPLETED: 10}
    assert target.connections() - before == 2 + 1
    assert max(row.sent_ns - row.dispatched_ns for row in result.rows) > 100_000_000


def test_a_broken_connection_is_replaced_for_queued_requests(run: Run[Result], target: HttpTarget) -> None:
    settings: dict[str, Any] = {"path": "/mode/goodbye/", "max_connections_per_host": 1}
    result = run(play(build(target.host, rate=100, duration=0.1, **settings)))
    assert sum(result.outcomes().values()) == 10
    assert set(result.outcomes()) <= {Outcome.COMPLETED, Outcome.CLOSED, Outcome.RESET}


def test_each_refused_connect_ends_one_queued_arrival(run: Run[Result]) -> None:
    result = run(play(build("127.0.0.1:1", rate=100, duration=0.2, max_connections_per_host=2)))
    assert result.outcomes() == {Outcome.CONNECT_REFUSED: 20}


def test_a_queued_request_times_out_like_a_sent_one(run: Run[Result], target: HttpTarget) -> None:
    settings: dict[str, Any] = {"path": "/mode/hang/", "max_connections_per_host": 2, "request_timeout_s": 0.3}
    result = run(play(build(target.host, rate=100, duration=0.2, **settings)))
    outcomes = result.outcomes()
    assert set(outcomes) == {Outcome.TIMEOUT, Outcome.CONNECT_TIMEOUT}
    assert sum(outcomes.values()) == 20
    # Without a bound, the last of them would wait for ten time-outs, one after the other.
    assert outcomes[Outcome.TIMEOUT] <= 4
