"""The open model stays open: a target that freezes for two seconds is seen as its users would see it.

The ideal is computed from the plan alone. An arrival that is intended while the target is frozen is answered when it
goes on, so its response time is what is left of the freeze; any other one is answered at once. The tolerance covers the
target's working off of what has piled up, and a busy machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from loadgen.arrivals.pacer import build_pacer
from loadgen.arrivals.schedule import Schedule
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.harness import Result, Row, build, finish
from tests.support.http_target import HttpTarget

pytestmark = pytest.mark.slow

RATE_RPS, DURATION_S, CLIENTS = 200.0, 5.0, 8
SECOND = 1_000_000_000
TOLERANCE_NS = 250_000_000
QUANTILES = (0.05, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass
class Run:
    """A load over a freeze; times since its start."""

    result: Result
    frozen_ns: int
    thawed_ns: int

    @property
    def rows(self) -> list[Row]:
        return self.result.rows

    def met_the_freeze(self) -> list[Row]:
        return [row for row in self.rows if self.frozen_ns <= row.intended_ns < self.thawed_ns]


@pytest.fixture
def own_target() -> Iterator[HttpTarget]:
    with HttpTarget() as server:
        yield server
        server.freeze(False)


def over_a_freeze(target: HttpTarget, **settings: Any) -> Run:
    async def scenario() -> Run:
        engine = build(target.host, clients=CLIENTS, request_timeout_s=20, **settings)
        await engine.prepare()
        start_ns = time.monotonic_ns() + 100_000_000
        engine.start(start_ns)
        await asyncio.sleep(1.6)
        target.freeze(True)
        frozen_ns = time.monotonic_ns() - start_ns
        await asyncio.sleep(2)
        thawed_ns = time.monotonic_ns() - start_ns
        target.freeze(False)
        return Run(await finish(engine), frozen_ns, thawed_ns)

    with asyncio.Runner() as runner:
        return runner.run(scenario())


def open_load(target: HttpTarget, **settings: Any) -> Run:
    return over_a_freeze(target, rate=RATE_RPS, duration=DURATION_S, arrival_process="expovariate", seed=3, **settings)


def planned_ns() -> list[int]:
    schedule = Schedule([(round(DURATION_S * SECOND), RATE_RPS)])
    return [arrival[0] for arrival in build_pacer("expovariate", schedule, range(CLIENTS), CLIENTS, 3, 0)]


def quantiles(values: list[int]) -> list[int]:
    ordered = sorted(values)
    return [ordered[int(q * len(ordered))] for q in QUANTILES]


def assert_ideal(run: Run) -> None:
    """The schedule was kept, and response times are those of the ideal model."""
    assert set(run.result.outcomes()) == {Outcome.COMPLETED}
    assert sorted(row.intended_ns for row in run.rows) == sorted(planned_ns())
    ideal = [run.thawed_ns - at if run.frozen_ns <= at < run.thawed_ns else 0 for at in planned_ns()]
    seen = [row.done_ns - row.intended_ns for row in run.rows]
    for q, theirs, ours in zip(QUANTILES, quantiles(ideal), quantiles(seen), strict=True):
        assert abs(ours - theirs) < TOLERANCE_NS, f"{q}: {ours / 1e6:.0f} ms, ideally {theirs / 1e6:.0f} ms"


def test_response_times_over_a_freeze_match_the_ideal_open_model(own_target: HttpTarget) -> None:
    run = open_load(own_target)
    assert_ideal(run)
    waited = run.met_the_freeze()
    assert len(waited) > 300
    # They were sent on time, and it is the target that they waited for.
    assert (
        sum(row.dispatched_ns - row.intended_ns for row in waited)
        < sum(row.done_ns - row.sent_ns for row in waited) / 20
    )


def test_waiting_for_a_connection_is_not_lateness(own_target: HttpTarget) -> None:
    run = open_load(own_target, max_connections_per_host=4)
    assert_ideal(run)
    waited = run.met_the_freeze()
    connection_wait_ns = sum(row.sent_ns - row.dispatched_ns for row in waited)
    assert sum(row.dispatched_ns - row.intended_ns for row in waited) < connection_wait_ns / 20
    assert sum(row.done_ns - row.sent_ns for row in waited) < connection_wait_ns / 5


def test_a_closed_loop_generator_would_hide_the_freeze(own_target: HttpTarget) -> None:
    """Coordinated omission: clients that wait for each response send at the same rate only while all is well."""
    think_s = CLIENTS / RATE_RPS
    run = over_a_freeze(own_target, model="closed", schedule=[[DURATION_S, CLIENTS]], think_time_parameters=[think_s])
    slow = [row for row in run.rows if row.done_ns - row.intended_ns > SECOND]
    assert 1 <= len(slow) <= CLIENTS  # one for each client, where the open model has hundreds
    assert quantiles([row.done_ns - row.intended_ns for row in run.rows])[QUANTILES.index(0.95)] < TOLERANCE_NS
    ideal = [run.thawed_ns - at for at in planned_ns() if run.frozen_ns <= at < run.thawed_ns]
    assert len([left_ns for left_ns in ideal if left_ns > SECOND]) > 10 * len(slow)
