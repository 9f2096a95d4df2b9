"""The agent notices that the worker's main process hears no orders any more."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from loadgen.messages import label_queue
from loadgen.supervision import CONNECT_ANEW, DEAF_AFTER_S, Supervisor


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """The signals that this process got, which plays the main process."""
    signals: list[int] = []
    before = signal.signal(CONNECT_ANEW, lambda number, _: signals.append(number))
    yield signals
    signal.signal(CONNECT_ANEW, before)


def look(supervisor: Supervisor, clock: Clock, at_s: float) -> None:
    clock.now_ns = round(at_s * 1e9)
    supervisor.wake_if_deaf()


def test_an_order_that_waits_for_long_has_the_main_process_connect_anew(
    store: redis.Redis, tmp_path: Path, heard: list[int]
) -> None:
    clock = Clock()
    supervisor = Supervisor(store, tmp_path, "w", 2, os.getpid(), clock)
    store.lpush(label_queue("worker_name", "w"), "an order")
    look(supervisor, clock, 1)
    look(supervisor, clock, 1 + DEAF_AFTER_S)
    assert heard == []
    look(supervisor, clock, 1.1 + DEAF_AFTER_S)
    look(supervisor, clock, 2 + DEAF_AFTER_S)
    assert heard == [CONNECT_ANEW]


def test_an_order_that_is_taken_in_time_or_waits_for_a_slot_is_no_sign(
    store: redis.Redis, tmp_path: Path, heard: list[int]
) -> None:
    clock = Clock()
    queue = label_queue("worker_name", "w")
    supervisor = Supervisor(store, tmp_path, "w", 2, os.getpid(), clock)
    store.lpush(queue, "an order")
    look(supervisor, clock, 1)
    store.delete(queue)
    look(supervisor, clock, 2)
    store.lpush(queue, "another")
    look(supervisor, clock, 3)
    look(supervisor, clock, 2 + DEAF_AFTER_S)
    full = Supervisor(store, tmp_path, "w", 0, os.getpid(), clock)
    look(full, clock, 1)
    look(full, clock, 60)
    assert heard == []
