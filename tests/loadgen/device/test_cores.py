"""CoreWatch: which processes' time counts against a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from loadgen.device.cores import CoreWatch, ProcessTimes, others_of, process_times
from loadgen.device.process import facts_of
from loadgen.device.running_shards import RunningShard, mark, siblings, unmark
from loadgen.protocol.messages import ShardOrder
from tests.support.shards import order_of


@pytest.mark.parametrize(
    ("used", "core", "own", "expected"),
    [
        ({0: 100, 1: 10}, 0, 100, 10),  # the shard alone on its core, the other one nearly idle
        ({0: 100, 1: 10}, 0, 30, 70),  # a neighbour on the shard's core
        ({0: 30, 1: 100}, 0, 30, 100),  # a neighbour has the only other core
        ({0: 30, 1: 100, 2: 5, 3: 0}, 0, 30, 0),  # of four cores, one busy neighbour leaves enough
        ({0: 30, 1: 100, 2: 90, 3: 95}, 0, 30, 90),  # but three do not
        ({0: 50}, 0, 50, 0),  # one core, the shard alone
        ({0: 100}, 0, 40, 60),
        ({0: 20}, 0, 40, 0),  # ticks are coarse
        ({0: 50, 1: 50}, 0, 100, 0),  # the shard was moved meanwhile
        ({0: 20}, 3, 40, 0),  # not known
        ({}, -1, 40, 0),
    ],
)
def test_the_shards_core_and_one_beside_it_must_be_free(
    used: dict[int, int], core: int, own: int, expected: int
) -> None:
    assert others_of(used, core, own) == expected


@pytest.mark.parametrize(
    ("used", "siblings", "expected"),
    [
        ({0: 90, 1: 95}, [(1, 95)], 0),  # one shard on each core
        ({0: 90, 1: 95}, [], 95),
        ({0: 100, 1: 95}, [(0, 10), (1, 95)], 0),  # a third one beside the shard
        ({0: 100, 1: 95}, [(1, 60)], 35),
        ({0: 90, 1: 95}, [(0, 95)], 0),  # the sibling was moved meanwhile
        ({0: 90, 1: 95}, [(7, 95)], 0),  # to a core that the process may not use
    ],
)
def test_shards_of_the_same_load_are_no_others(
    used: dict[int, int], siblings: list[tuple[int, int]], expected: int
) -> None:
    assert others_of(used, 0, 90, siblings) == expected


def test_the_sums_never_decrease() -> None:
    watch = CoreWatch(time.process_time_ns())
    sums = []
    for _ in range(3):
        watch.look(time.process_time_ns())
        sums.append((watch.others_ns, watch.stolen_ns))
    assert sums[0] >= (0, 0)
    assert [others for others, _ in sums] == sorted(others for others, _ in sums)
    assert [stolen for _, stolen in sums] == sorted(stolen for _, stolen in sums)


@pytest.mark.slow
def test_a_busy_sibling_does_not_count_and_a_stranger_does() -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            as_stranger, as_sibling = CoreWatch(time.process_time_ns()), CoreWatch(time.process_time_ns(), [busy.pid])
            before = process_times(busy.pid)
            time.sleep(1)
            as_stranger.look(time.process_time_ns())
            as_sibling.look(time.process_time_ns(), [busy.pid])
            after = process_times(busy.pid)
        finally:
            busy.kill()
            busy.wait()
    finally:
        os.sched_setaffinity(0, cores)
    assert before is not None and after is not None
    used_ns = after.cpu_ns - before.cpu_ns
    assert used_ns >= 100_000_000
    assert as_stranger.others_ns >= 0.8 * used_ns
    assert as_sibling.others_ns <= as_stranger.others_ns - 0.8 * used_ns


def proc_stat(monkeypatch: pytest.MonkeyPatch, *ticks: list[int]) -> None:
    """Replaces the figures of core 0, on which this process runs."""
    lines = iter(f"cpu0 {' '.join(map(str, line))}\ncpu1 0 0 0 0\nctxt 5\n" for line in ticks)
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: next(lines) if str(path) == "/proc/stat" else read(path))
    monkeypatch.setattr("loadgen.device.cores.os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("loadgen.device.cores.process_times", lambda _: ProcessTimes(0, 0))


def test_steal_is_separate_from_the_time_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    #                       user nice system idle iowait irq softirq steal guest guest_nice
    proc_stat(monkeypatch, [100, 10, 20, 300, 40, 0, 0, 50, 7, 0], [130, 10, 20, 320, 60, 5, 5, 90, 37, 0])
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    watch = CoreWatch(0)
    watch.look(25 * tick_ns)
    assert (watch.others_ns, watch.stolen_ns) == (15 * tick_ns, 40 * tick_ns)


def test_an_old_kernel_without_steal_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    proc_stat(monkeypatch, [100, 0, 0, 0], [101, 0, 0, 0])
    watch = CoreWatch(0)
    watch.look(0)
    assert (watch.others_ns, watch.stolen_ns) == (1_000_000_000 // os.sysconf("SC_CLK_TCK"), 0)


def test_the_times_of_a_process_are_its_cpu_time_and_its_core() -> None:
    before = time.process_time_ns()
    while time.process_time_ns() < before + 30_000_000:
        pass
    times = process_times(os.getpid())
    assert times is not None
    assert times.cpu_ns >= 20_000_000
    assert times.core in range(os.cpu_count() or 1)
    assert process_times(2**22 + 1) is None


def test_siblings_are_the_processes_of_the_same_experiment(tmp_path: Path) -> None:
    orders = [
        order_of(1, "e.0", experiment_id="e"),
        order_of(2, "e.0", experiment_id="e"),
        order_of(3, "e.1", experiment_id="e"),
        order_of(4, "ee.0", experiment_id="ee"),
        order_of(5, "alone"),
        order_of(6, "alone"),
    ]
    processes = [subprocess.Popen(["sleep", "60"]) for _ in orders]
    pids = [process.pid for process in processes]
    try:
        for order, pid in zip(orders, pids, strict=True):
            put_mark(tmp_path, order, pid)
        own = mark(tmp_path, orders[0])
        assert sorted(siblings(tmp_path, orders[0])) == sorted(pids[:3])  # the first is a copy of its own order
        assert sorted(siblings(tmp_path, orders[4])) == sorted(pids[4:])
        unmark(tmp_path, own)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert siblings(tmp_path, orders[0]) == []
    assert siblings(tmp_path / "not there", orders[0]) == []


def put_mark(folder: Path, order: ShardOrder, pid: int) -> None:
    facts = facts_of(pid)
    assert facts is not None
    shard = RunningShard(order.shard_id, 1, order.group_id, pid, facts.started_ticks, leased=True)
    (folder / shard.file).write_text(json.dumps(asdict(shard)))
