"""StallWatch: measures how long the event loop is blocked, and by which work."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from loadgen.device.process import run_queue_wait_ns

# A longer call of a client app delays the reading of responses: their measured times are too long.
SLOW_CALL_NS: Final = 10_000_000


class AppTime:
    """Time spent in calls of a client app; `slow_ns` in those that took longer than SLOW_CALL_NS each.

    The time in which the process waited for the CPU does not make a call slow.

    Args:
        waited_ns: returns how long the process has waited for the CPU so far; called at slow calls only.
    """

    __slots__ = ("_waited_ns", "longest_ns", "slow_ns", "total_ns", "waited_before_ns")

    def __init__(self, waited_ns: Callable[[], int] = run_queue_wait_ns) -> None:
        self._waited_ns = waited_ns
        self.waited_before_ns = 0  # value of `waited_ns` shortly before the next call
        self.total_ns = 0
        self.slow_ns = 0
        self.longest_ns = 0

    def add_slow(self, took_ns: int) -> None:
        """Adds a call of more than SLOW_CALL_NS, which the caller has added to `total_ns`."""
        before_ns, self.waited_before_ns = self.waited_before_ns, self._waited_ns()
        took_ns -= self.waited_before_ns - before_ns
        if took_ns > SLOW_CALL_NS:
            self.slow_ns += took_ns
            self.longest_ns = max(self.longest_ns, took_ns)


@dataclass(frozen=True, slots=True)
class Stall:
    """A stall of the event loop, and how the time since the previous tick was spent.

    In the rest of `length_ns` the process was stopped or swapped out, or the machine was suspended.
    """

    length_ns: int = 0
    waited_ns: int = 0  # waiting for the CPU; not part of the times below
    app_ns: int = 0  # in the client app, its own waits included
    collecting_ns: int = 0  # in the garbage collector
    sealing_ns: int = 0  # in the sealing of a batch
    own_ns: int = 0  # on the CPU with anything else


class StallWatch:
    """Compares the times of ticks that should be `tick_ns` apart.

    The caller adds the time of sealing a batch to `sealing_ns`. The garbage collector is timed from `start` to `stop`.

    Args:
        now_ns: the monotonic clock.
        cpu_ns: the CPU time of the loop's thread.
        waited_ns: how long that thread has waited for the CPU.
    """

    def __init__(
        self,
        app: AppTime,
        now_ns: Callable[[], int],
        tick_ns: int,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
        waited_ns: Callable[[], int] = run_queue_wait_ns,
    ) -> None:
        self._app = app
        self._now_ns = now_ns
        self._tick_ns = tick_ns
        self._cpu_ns = cpu_ns
        self._waited_ns = waited_ns
        self.sealing_ns = 0
        self._collecting_ns = 0
        self._collecting_since_ns = 0
        self._sums = (0, 0, 0, 0, 0, 0)
        self._longest = Stall()

    def start(self, now_ns: int) -> None:
        """The first tick is expected `tick_ns` from now."""
        if self._collected not in gc.callbacks:
            gc.callbacks.append(self._collected)
        self._sums = self._sums_at(now_ns)

    def stop(self) -> None:
        if self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)

    def tick(self, now_ns: int) -> None:
        before, self._sums = self._sums, self._sums_at(now_ns)
        passed_ns, cpu_ns, waited_ns, app_ns, collecting_ns, sealing_ns = (
            now - then for now, then in zip(self._sums, before, strict=True)
        )
        if passed_ns - self._tick_ns > self._longest.length_ns:
            self._longest = Stall(
                passed_ns - self._tick_ns, waited_ns, *_without(waited_ns, cpu_ns, app_ns, collecting_ns, sealing_ns)
            )

    def take(self) -> Stall:
        """Returns the longest stall since the last call."""
        longest, self._longest = self._longest, Stall()
        return longest

    def _sums_at(self, now_ns: int) -> tuple[int, int, int, int, int, int]:
        waited_ns = self._app.waited_before_ns = self._waited_ns()
        return now_ns, self._cpu_ns(), waited_ns, self._app.total_ns, self._collecting_ns, self.sealing_ns

    def _collected(self, phase: str, _: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting_since_ns = self._now_ns()
        else:
            self._collecting_ns += self._now_ns() - self._collecting_since_ns


def _without(waited_ns: int, cpu_ns: int, *parts_ns: int) -> tuple[int, ...]:
    """Returns the parts of a stall without the wait for the CPU, and the rest of the CPU time.

    It is unknown in which part the process waited: the wait is subtracted from the longest part first.
    """
    left = list(parts_ns)
    for place in sorted(range(len(left)), key=lambda place: -left[place]):
        taken_ns = min(left[place], waited_ns)
        left[place] -= taken_ns
        waited_ns -= taken_ns
    return *left, max(0, cpu_ns - sum(left))
