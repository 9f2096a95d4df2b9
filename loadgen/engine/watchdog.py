"""Watchdog: interrupts a client app whose call does not return."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from loadgen.engine.deadlines import NEVER
from loadgen.engine.errors import stack_tail

# A shard renews its lease every 2 s, and the lease expires after 6 s: a shard that is interrupted within these limits
# still has its lease, and reports the reason itself. All other clients of the shard are late by then, too.
CALL_LIMIT_S: Final = 3.0
LOAD_LIMIT_S: Final = 5.0  # the lease was just renewed; libraries may load from a slow disk
_LOOK_S: Final = 0.25
_LOOK_NS: Final = round(_LOOK_S * 1e9)


class AppStuck(BaseException):
    """Raised in a client app that has been busy for too long; `where` has the innermost lines of its stack.

    It is not an Exception, as an app may catch those in its endless loop.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(where)


class Watchdog:
    """Raises AppStuck in the main thread once `until_ns`, the limit of the call in progress, has passed.

    Time in which the process stood still (SIGSTOP, a suspended machine) is not the app's, and moves the limit.

    The signal of a timer is handled between two instructions of the main thread, or while it waits. A call that never
    returns from C cannot be interrupted: the shard's lease expires, and the shard counts as lost. A watchdog must be
    used in the main thread, one at a time.

    Args:
        now_ns: the clock of `until_ns`.
    """

    __slots__ = ("_before", "_looked_cpu_ns", "_looked_ns", "_now_ns", "_since_ns", "_timer_before", "until_ns")

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._before: Any = None
        self._timer_before = (0.0, 0.0)
        self._since_ns = 0
        self._looked_ns = self._looked_cpu_ns = 0
        self.until_ns = NEVER

    def start(self) -> None:
        self._since_ns = time.monotonic_ns()
        self._looked_ns, self._looked_cpu_ns = self._now_ns(), time.process_time_ns()
        self._before = signal.signal(signal.SIGALRM, self._look)
        self._timer_before = signal.setitimer(signal.ITIMER_REAL, _LOOK_S, _LOOK_S)

    def stop(self) -> None:
        """Restores the timer and the signal handler that were set before."""
        if self._before is None:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        self._before = None
        left_s, interval_s = self._timer_before
        if left_s:
            passed_s = (time.monotonic_ns() - self._since_ns) / 1e9
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s - passed_s), interval_s)

    def call_ended(self) -> None:
        self.until_ns = NEVER

    def _look(self, _signum: int, frame: FrameType | None) -> None:
        now_ns, cpu_ns = self._now_ns(), time.process_time_ns()
        gap_ns, used_ns = now_ns - self._looked_ns, cpu_ns - self._looked_cpu_ns
        self._looked_ns, self._looked_cpu_ns = now_ns, cpu_ns
        if gap_ns > 2 * _LOOK_NS and used_ns < gap_ns // 2:  # a call into C that computes for so long uses its core
            self.until_ns += gap_ns - used_ns - _LOOK_NS
        if now_ns >= self.until_ns:
            self.until_ns = now_ns + round(CALL_LIMIT_S * 1e9)  # raised again, in case the app catches even this
            raise AppStuck(stack_tail(frame))
