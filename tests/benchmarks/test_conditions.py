"""What the machine is like before a round."""

import os

import pytest

from benchmarks.conditions import Look, Pace
from benchmarks.cores import Cores

pytestmark = pytest.mark.costly


class Machine:
    """A clock that only the work moves; it takes the times given, and then goes on with the last of them."""

    def __init__(self, *times_s):
        self.now_s = 0.0
        self.times_s = list(times_s)

    def work(self):
        self.now_s += self.times_s.pop(0) if len(self.times_s) > 1 else self.times_s[0]

    def pace(self):
        return Pace(self.work, lambda: self.now_s)


def test_work_50_percent_over_the_minimum_is_slow():
    machine = Machine(0.125, 0.1875, 0.1875, 0.25, 0.25)
    assert machine.pace().slow_share(1.0) == 0.5


def test_a_slow_window_is_judged_by_earlier_windows():
    machine = Machine(*[0.125] * 8, 0.25)
    pace = machine.pace()
    assert pace.slow_share(1.0) == 0
    assert pace.slow_share(1.0) == 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_look_leaves_this_process_on_the_targets_core():
    allowed = os.sched_getaffinity(0)
    generator, target = sorted(allowed)[:2]
    try:
        conditions = Look(Cores(generator, target))()
        assert os.sched_getaffinity(0) == {target}
    finally:
        os.sched_setaffinity(0, allowed)
    assert 0 <= conditions.others_share <= 1
    assert 0 <= conditions.slow_share <= 1
