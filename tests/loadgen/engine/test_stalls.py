"""A stall of the event loop has a cause, and a client app that is slow has a figure."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

import pytest

from loadgen.engine import EngineGauges
from loadgen.engine.end import STOPPED
from loadgen.engine.stalls import AppTime, Stall, StallWatch
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Engine, build, finish
from tests.loadgen.engine.http.test_sources import write_app
from tests.support.http_target import HttpTarget

TICK_NS = 10
MS = 1_000_000


class Clocks:
    """A monotonic clock and a CPU clock that move when a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.cpu_ns = 0
        self.waited_ns = 0
        self.app = AppTime(lambda: self.waited_ns)
        self.watch = StallWatch(self.app, lambda: self.now_ns, TICK_NS, lambda: self.cpu_ns, lambda: self.waited_ns)

    def tick(self, wall_ns: int, cpu_ns: int = 0, waited_ns: int = 0) -> None:
        self.now_ns += wall_ns
        self.cpu_ns += cpu_ns
        self.waited_ns += waited_ns
        self.watch.tick(self.now_ns)


@pytest.fixture
def clocks():
    clocks = Clocks()
    clocks.watch.start(0)
    yield clocks
    clocks.watch.stop()


def test_ticks_on_time_are_no_stall(clocks: Clocks) -> None:
    for _ in range(3):
        clocks.tick(TICK_NS, cpu_ns=TICK_NS)
    assert clocks.watch.take() == Stall()


def test_take_returns_the_longest_stall_and_resets_it(clocks: Clocks) -> None:
    for wall_ns in (15, 40, 25):
        clocks.tick(wall_ns)
    assert clocks.watch.take() == Stall(30)
    clocks.tick(12)
    assert clocks.watch.take() == Stall(2)


def test_a_stall_is_divided_by_cause(clocks: Clocks) -> None:
    clocks.tick(TICK_NS, cpu_ns=9)
    clocks.app.total_ns += 40
    clocks.watch.sealing_ns += 20
    clocks.tick(110, cpu_ns=75)
    assert clocks.watch.take() == Stall(100, app_ns=40, sealing_ns=20, own_ns=15)


def test_an_app_that_waits_uses_no_time_of_others(clocks: Clocks) -> None:
    clocks.app.total_ns += 100
    clocks.tick(110, cpu_ns=5)
    assert clocks.watch.take() == Stall(100, app_ns=100)


def test_waiting_for_the_cpu_is_not_the_fault_of_whom_it_met(clocks: Clocks) -> None:
    clocks.app.total_ns += 90
    clocks.watch.sealing_ns += 10
    clocks.tick(110, cpu_ns=25, waited_ns=80)
    assert clocks.watch.take() == Stall(100, waited_ns=80, app_ns=10, sealing_ns=10, own_ns=5)


def test_a_call_that_only_waited_for_the_cpu_is_not_slow(clocks: Clocks) -> None:
    clocks.tick(TICK_NS, waited_ns=5 * MS)
    for took_ns, waited_ns in ((40 * MS, 35 * MS), (40 * MS, 10 * MS), (20 * MS, 0), (20 * MS, 20 * MS)):
        clocks.waited_ns += waited_ns
        clocks.app.add_slow(took_ns)
    assert (clocks.app.slow_ns, clocks.app.longest_ns) == (50 * MS, 30 * MS)


def test_a_collection_is_part_of_the_stall(clocks: Clocks) -> None:
    before = list(gc.callbacks)
    clocks.watch.stop()
    clocks.watch.stop()  # once more than needed
    assert len(gc.callbacks) == len(before) - 1
    gc.collect()
    clocks.tick(TICK_NS + 1)
    assert clocks.watch.take().collecting_ns == 0


def test_the_collectors_time_runs_from_its_start_to_its_stop() -> None:
    clock = iter(range(0, 1000, 100))
    watch = StallWatch(AppTime(), lambda: next(clock), TICK_NS, lambda: 0, lambda: 0)
    watch.start(0)
    gc.collect()
    watch.stop()
    watch.tick(500)
    assert watch.take() == Stall(490, collecting_ns=100)


async def gauges_of(engine: Engine, while_running) -> EngineGauges:
    await engine.prepare()
    engine.start(time.monotonic_ns())
    await while_running()
    gauges = engine.take_gauges()
    engine.stop(0, STOPPED)
    await finish(engine)
    return gauges


@pytest.mark.slow
@pytest.mark.parametrize("model", ["open", "closed"])
def test_a_slow_next_request_is_the_cause_of_its_stall(
    run: Run[EngineGauges], target: HttpTarget, tmp_path: Path, model: str
) -> None:
    lines = ["import time", "n = 0", "def next_request():", "    global n", "    n += 1"]
    lines += ["    if n == 3:", "        time.sleep(0.3)", "    return 'GET', '/', {}"]
    write_app(tmp_path, "slow", "\n".join(lines))
    load = {"rate": 50, "duration": 5} if model == "open" else {"schedule": [[5, 1]], "model": "closed"}
    engine = build(target.host, clients=1, client_app="slow", apps_dir=tmp_path, max_lateness_s=5, **load)

    gauges = run(gauges_of(engine, lambda: asyncio.sleep(0.6)))

    stall = gauges.stall
    assert stall.length_ns >= 250 * MS
    assert 250 * MS <= stall.app_ns <= stall.length_ns + 20 * MS
    assert stall.app_ns > stall.own_ns + stall.collecting_ns + stall.sealing_ns
    assert 250 * MS <= gauges.app_time.longest_ns <= gauges.app_time.slow_ns <= gauges.app_time.total_ns


@pytest.mark.slow
def test_a_quick_app_has_no_slow_calls(run: Run[EngineGauges], target: HttpTarget, tmp_path: Path) -> None:
    write_app(tmp_path, "quick", "def next_request(): return 'GET', '/', {}")
    engine = build(target.host, rate=50, duration=5, client_app="quick", apps_dir=tmp_path)

    app_time = run(gauges_of(engine, lambda: asyncio.sleep(0.3))).app_time

    assert 0 < app_time.total_ns < 300 * MS
    assert app_time.slow_ns == 0


@pytest.mark.slow
def test_a_process_that_sleeps_uses_nothing(run: Run[EngineGauges], target: HttpTarget) -> None:
    async def block() -> None:
        await asyncio.sleep(0.05)
        time.sleep(0.3)
        await asyncio.sleep(0.05)

    stall = run(gauges_of(build(target.host, rate=10, duration=5), block)).stall
    assert stall.length_ns >= 250 * MS
    assert stall.app_ns + stall.collecting_ns + stall.sealing_ns + stall.own_ns < stall.length_ns / 2


@pytest.mark.slow
def test_long_waits_at_the_connection_limit_are_counted(run: Run[EngineGauges], target: HttpTarget) -> None:
    async def some_time() -> None:
        await asyncio.sleep(0.6)

    def engine(limit: int) -> Engine:
        return build(target.host, rate=50, duration=5, path="/mode/slow/", max_connections_per_host=limit)

    # The target takes 100 ms: one connection serves 10 requests a second.
    assert run(gauges_of(engine(1), some_time)).pool_waits >= 2
    assert run(gauges_of(engine(50), some_time)).pool_waits == 0
