"""Supervisor: makes a worker reconnect that receives no orders, and removes the files of dead shards."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import redis

from loadgen.agent.supervision import RECONNECT, RECONNECT_AFTER_S, Supervisor
from loadgen.device.running_shards import RunningShard
from loadgen.device.spool import Spool
from loadgen.protocol.keys import label_queue

OWN, ZONE = QUEUES = [label_queue("worker_name", "w"), label_queue("zone", "A")]


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """The signals that this process got, which stands for the main process."""
    signals: list[int] = []
    before = signal.signal(RECONNECT, lambda number, _: signals.append(number))
    yield signals
    signal.signal(RECONNECT, before)


def look(supervisor: Supervisor, clock: Clock, at_s: float) -> None:
    clock.now_ns = round(at_s * 1e9)
    supervisor.reconnect_if_stuck()


@pytest.mark.parametrize("queue", QUEUES)
def test_an_order_that_waits_long_makes_the_worker_reconnect(
    store: redis.Redis, tmp_path: Path, heard: list[int], queue: str
) -> None:
    clock = Clock()
    supervisor = Supervisor(store, Spool(tmp_path, 1 << 20), "w", QUEUES, 2, os.getpid(), clock)
    store.lpush(queue, "an order")
    look(supervisor, clock, 1)
    look(supervisor, clock, 1 + RECONNECT_AFTER_S)
    assert heard == []
    look(supervisor, clock, 1.1 + RECONNECT_AFTER_S)
    look(supervisor, clock, 2 + RECONNECT_AFTER_S)
    assert heard == [RECONNECT]


def test_an_order_that_waits_for_a_slot_causes_no_reconnect(
    store: redis.Redis, tmp_path: Path, heard: list[int]
) -> None:
    clock = Clock()
    supervisor = Supervisor(store, Spool(tmp_path, 1 << 20), "w", QUEUES, 2, os.getpid(), clock)
    store.lpush(OWN, "an order")
    look(supervisor, clock, 1)
    store.delete(OWN)
    look(supervisor, clock, 2)
    store.lpush(OWN, "another")
    look(supervisor, clock, 3)
    look(supervisor, clock, 2 + RECONNECT_AFTER_S)
    full = Supervisor(store, Spool(tmp_path, 1 << 20), "w", QUEUES, 0, os.getpid(), clock)
    look(full, clock, 1)
    look(full, clock, 60)
    assert heard == []


def test_a_queue_that_others_work_off_is_no_sign(store: redis.Redis, tmp_path: Path, heard: list[int]) -> None:
    clock = Clock()
    supervisor = Supervisor(store, Spool(tmp_path, 1 << 20), "w", QUEUES, 2, os.getpid(), clock)
    store.lpush(ZONE, *("an order" for _ in range(4)))
    for at_s in (1, 7, 13, 19):
        look(supervisor, clock, at_s)
        store.rpop(ZONE)
    assert heard == []


@pytest.mark.parametrize(("leased", "left"), [(True, ["g.0.7.1.4.batch", "g.0.7.2.5.tmp"]), (False, None)])
def test_incomplete_files_of_a_dead_shard_are_removed(
    store: redis.Redis, tmp_path: Path, leased: bool, left: list[str] | None
) -> None:
    spooled = ["g.0.7.1.4.batch", "g.0.7.1.5.tmp", "g.0.7.2.5.tmp"]  # group g.0, shard 7, attempt 1 or 2
    for name in spooled:
        (tmp_path / name).touch()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    shard = RunningShard(7, 1, "g.0", process.pid, 1, leased)
    (tmp_path / shard.file).write_text(json.dumps(asdict(shard)))
    Supervisor(store, Spool(tmp_path, 1 << 20), "w", QUEUES, 2, os.getpid()).report_deaths()
    assert sorted(path.name for path in tmp_path.iterdir()) == (left or spooled)
