"""The conditions of the machine before a measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from benchmarks import cores
from benchmarks.cores import Cores

_WINDOW_S = 1.0
# A piece of work is slow that takes this many times as long as its fastest repetition.
_SLOW = 1.5


@dataclass(frozen=True)
class Conditions:
    """Shares from 0 to 1.

    Attributes:
        others_share: of the machine, used by other processes.
        slow_share: of the time in which the generator's core was slow.
    """

    others_share: float
    slow_share: float


class Pace:
    """Measures the speed of a core by repetitions of one piece of work.

    A virtual machine's core may be half as fast for a while, as when another machine uses the second thread of the same
    processor core (SMT). The kernel does not count this as steal time.
    """

    def __init__(self, work: Callable[[], object], now_s: Callable[[], float] = time.perf_counter) -> None:
        self._work = work
        self._now_s = now_s
        self._least_s = float("inf")  # in all windows so far: in one window, all repetitions may be slow

    def slow_share(self, window_s: float) -> float:
        """Returns the share of a window, 0 to 1, in which the work took more than _SLOW times its least time."""
        times_s = []
        begun_s = last_s = self._now_s()
        while last_s - begun_s < window_s:
            self._work()
            now_s = self._now_s()
            times_s.append(now_s - last_s)
            last_s = now_s
        self._least_s = min(self._least_s, *times_s)
        return sum(each for each in times_s if each > _SLOW * self._least_s) / sum(times_s)


class Look:
    """Measures the present conditions for about two seconds, in which the cores should be idle."""

    def __init__(self, used: Cores) -> None:
        self._used = used
        self._pace = Pace(_work)

    def __call__(self) -> Conditions:
        others_share = psutil.cpu_percent(_WINDOW_S) / 100
        cores.stay_on(self._used.generator)
        try:
            return Conditions(others_share, self._pace.slow_share(_WINDOW_S))
        finally:
            cores.stay_on(self._used.target)


def _work() -> int:
    """Computes for about half a millisecond."""
    return sum(number * number for number in range(10_000))
