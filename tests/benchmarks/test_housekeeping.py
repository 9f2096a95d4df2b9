"""Others go off the generator's core, and come back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import housekeeping
from tests.support.waiting import wait_for

_TWO_THREADS = """
import sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def program(tmp_path):
    """A process with two threads, and a folder like /proc that has no other."""
    process = subprocess.Popen(
        [sys.executable, "-c", _TWO_THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        (tmp_path / str(process.pid) / "task" / task.name).mkdir(parents=True)
    (tmp_path / "self" / "task").mkdir(parents=True)
    yield process
    process.communicate()


def affinities(process):
    return {task.name: os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{process.pid}/task").iterdir()}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_threads_are_off_a_core_for_as_long_as_it_takes(program, tmp_path):
    core = min(os.sched_getaffinity(0))
    before = affinities(program)
    with housekeeping.kept_off(core, tmp_path) as moved:
        assert affinities(program) == {thread: allowed - {core} for thread, allowed in before.items()}
    assert moved == len(before) == 2
    assert affinities(program) == before


def test_who_is_bound_to_the_core_or_gone_is_left_alone(program, tmp_path):
    core = min(os.sched_getaffinity(0))
    for thread in affinities(program):
        os.sched_setaffinity(int(thread), {core})
    (tmp_path / "4194305" / "task" / "4194305").mkdir(parents=True)  # above what Linux gives
    with housekeeping.kept_off(core, tmp_path) as moved:
        assert moved == 0
        assert set(map(frozenset, affinities(program).values())) == {frozenset({core})}


def test_who_may_not_move_them_measures_all_the_same(program, tmp_path, monkeypatch):
    def refuse(pid, allowed):
        raise PermissionError(pid)

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with housekeeping.kept_off(0, tmp_path) as moved:
        assert moved == 0


_SHIELDS = """
import sys
from pathlib import Path
from benchmarks import housekeeping
from tests.support.waiting import wait_for
with housekeeping.kept_off(int(sys.argv[1]), Path(sys.argv[2])):
    print("shielded", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_threads_come_back_when_the_benchmark_is_killed(program, tmp_path):
    core = min(os.sched_getaffinity(0))
    before = affinities(program)
    benchmark = subprocess.Popen(
        [sys.executable, "-c", _SHIELDS, str(core), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert benchmark.stdout.readline() == "shielded\n"
    assert all(core not in allowed for allowed in affinities(program).values())
    benchmark.kill()
    benchmark.communicate()
    wait_for(lambda: affinities(program) == before, "threads that may run where they might before")
