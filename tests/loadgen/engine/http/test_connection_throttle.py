"""In which turns of the loop connections are opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from loadgen.engine.http.connection_throttle import ConnectionThrottle
from loadgen.engine.recorder import Recorder
from loadgen.protocol.enums import ConnectionMode, LoadModel
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import build

pytestmark = pytest.mark.costly


class Host:
    """Lacks some connections; `opened` takes down who opened how many, and when."""

    def __init__(self, name: str, lacking: int, opened: list[str]) -> None:
        self.name = name
        self.lacking = lacking
        self.opened = opened

    def open(self, most: int) -> bool:
        number = min(most, self.lacking)
        self.lacking -= number
        self.opened += [self.name] * number
        return self.lacking > 0


def complete(recorder: Recorder, requests: int) -> None:
    for sequence in range(requests):
        recorder.row(0, sequence, 0, 0, 0, 0, Outcome.COMPLETED, 200, "h", 0, 1)


def test_hosts_take_turns_opening_one_connection_each() -> None:
    async def scenario() -> list[list[str]]:
        opened: list[str] = []
        throttle = ConnectionThrottle(Recorder(), (), lambda: 0, always_needed=False)
        a, b = Host("a", 3, opened), Host("b", 1, opened)
        for host in (a, b, a):
            throttle.request(host)
        turns = []
        for _ in range(6):
            turns.append(list(opened))
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(scenario())[1:] == [
        ["a"],
        ["a", "b"],
        ["a", "b", "a"],
        ["a", "b", "a", "a"],
        ["a", "b", "a", "a"],
    ]


def lacking(
    connections: int, *, always_needed: bool, now_ns: Callable[[], int] = lambda: 0
) -> tuple[list[str], Recorder]:
    """Returns the connections that a host opens which lacks 100, and the recorder of the answers."""
    opened: list[str] = []
    recorder = Recorder()
    throttle = ConnectionThrottle(recorder, range(connections), now_ns, always_needed=always_needed)
    throttle.request(Host("a", 100, opened))
    return opened, recorder


def test_a_slow_generator_opens_few_connections() -> None:
    async def scenario(connections: int, answered: int) -> list[str]:
        opened, recorder = lacking(connections, always_needed=False)
        await asyncio.sleep(0)  # the first of all is opened at once
        for _ in range(10):
            complete(recorder, answered)
            await asyncio.sleep(0)
        busy = opened[1:]
        await asyncio.sleep(0)
        assert len(opened) == len(busy) + 2  # as soon as responses are awaited, not read
        return busy

    assert asyncio.run(scenario(64, 16)) == []
    assert asyncio.run(scenario(400, 100)) == []
    assert len(asyncio.run(scenario(400, 99))) == 10
    assert len(asyncio.run(scenario(63, 63))) == 10  # few connections say nothing about who is slow


def test_one_is_opened_now_and_then_however_slow_we_are() -> None:
    async def scenario() -> list[str]:
        clock = [0]
        opened, recorder = lacking(64, always_needed=False, now_ns=lambda: clock[0])
        await asyncio.sleep(0)
        complete(recorder, 64)
        clock[0] = 20_000_000
        await asyncio.sleep(0)
        return list(opened)

    assert asyncio.run(scenario()) == ["a", "a"]


def test_always_needed_opens_several_connections_per_turn() -> None:
    async def scenario() -> list[str]:
        opened, recorder = lacking(64, always_needed=True)
        complete(recorder, 64)
        await asyncio.sleep(0)
        return list(opened)

    assert len(asyncio.run(scenario())) == 8


@pytest.mark.parametrize(
    ("workload", "opened"),
    [({}, 1), ({"connection": ConnectionMode.NEW}, 8), ({"model": LoadModel.CLOSED, "schedule": [[1.0, 20.0]]}, 8)],
    ids=["open model", "new connections", "closed model"],
)
def test_the_engine_sets_always_needed_by_model_and_keep_alive(
    workload: dict[str, Any], opened: int, run: Run[int]
) -> None:
    async def scenario() -> int:
        engine = build("127.0.0.1:9", rate=20.0, duration=1.0, clients=20, **workload)
        await engine.prepare()
        engine.start(time.monotonic_ns() - 900_000_000)
        for _ in range(20):  # preparing the first request may take the time of a whole turn
            engine._dispatch()
        await asyncio.sleep(0)
        openings = engine._pool.opening
        await engine.close()
        return openings

    assert run(scenario()) == opened
