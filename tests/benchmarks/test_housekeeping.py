"""The kernel's threads go off the generator's core, and come back."""

import os

import pytest

from benchmarks import housekeeping


def affinities():
    found = {}
    for pid in housekeeping.kernel_threads():
        try:
            found[pid] = os.sched_getaffinity(pid)
        except OSError:
            continue  # it has just ended
    return found


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_kernels_threads_are_off_a_core_for_as_long_as_it_takes():
    core = min(os.sched_getaffinity(0))
    before = affinities()
    with housekeeping.kept_off(core) as moved:
        during = affinities()
    after = affinities()
    changed = [pid for pid in before.keys() & during.keys() if before[pid] != during[pid]]
    assert len(changed) <= moved
    assert all(during[pid] == before[pid] - {core} for pid in changed)
    assert all(before[pid] == after[pid] for pid in before.keys() & after.keys())
    if os.geteuid() == 0 and any(len(allowed) > 1 for allowed in before.values()):
        assert changed


def test_who_may_not_move_them_measures_all_the_same(monkeypatch):
    def refuse(pid, allowed):
        raise PermissionError(pid)

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with housekeeping.kept_off(0) as moved:
        assert moved == 0
