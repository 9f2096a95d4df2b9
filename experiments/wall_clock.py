"""WallClock: the time since a time in the database, without the steps of this process's wall clock in between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from django.utils import timezone

_LEAST_STEP = timedelta(seconds=1)
_MOST_STEPS = 20


class WallClock:
    """Notices steps of the wall clock by the monotonic one; only those while this process runs.

    A step back is not subtracted: a time of before it cannot be told from one of after it, and it ends no wait early.
    """

    def __init__(
        self, now: Callable[[], datetime] = timezone.now, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._monotonic_s = monotonic_s
        self._seen: tuple[datetime, float] | None = None
        self._steps: deque[tuple[datetime, timedelta]] = deque(maxlen=_MOST_STEPS)  # last time before it, and its size

    def look(self) -> datetime:
        """Notices a step since the last call; returns the present time. To be called often."""
        now, monotonic_s = self._now(), self._monotonic_s()
        if self._seen is not None:
            before, before_s = self._seen
            expected = before + timedelta(seconds=monotonic_s - before_s)
            if now - expected > _LEAST_STEP:
                self._steps.append((expected, now - expected))
        self._seen = now, monotonic_s
        return now

    def since(self, at: datetime) -> timedelta:
        """The time since `at`."""
        now = self.look()
        return now - at - sum((step for before, step in self._steps if at <= before), timedelta())


wall_clock = WallClock()
