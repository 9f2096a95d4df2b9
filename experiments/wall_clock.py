"""WallClock: the time since a time in the database, without the steps of this process's wall clock in between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

_LEAST_STEP = timedelta(seconds=1)
_MOST_SPANS = 20


@dataclass
class _Span:
    """A time between two steps, by the wall clock and, at its end, by the monotonic one."""

    begin: datetime
    end: datetime
    end_s: float

    def has(self, at: datetime) -> bool:
        """Whether the wall clock showed `at` then; other machines' clocks may be a little behind or ahead."""
        return self.begin - _LEAST_STEP <= at <= self.end + _LEAST_STEP


class WallClock:
    """Notices steps of the wall clock by the monotonic one; only those while this process runs.

    After a step back the clock shows times a second time. Such a time counts as the later one, so that no wait ends
    early; a wait that began before the step lasts longer by its size.
    """

    def __init__(
        self, now: Callable[[], datetime] = timezone.now, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._monotonic_s = monotonic_s
        self._spans: deque[_Span] = deque(maxlen=_MOST_SPANS)  # the last one is the present one

    def look(self) -> datetime:
        """Notices a step since the last call; returns the present time. To be called often."""
        now, monotonic_s = self._now(), self._monotonic_s()
        if not self._spans:
            self._spans.append(_Span(now, now, monotonic_s))
        span = self._spans[-1]
        passed = timedelta(seconds=monotonic_s - span.end_s)
        expected = span.end + passed
        if abs(now - expected) > _LEAST_STEP:
            # The step was at some time since the last look.
            span.end, span.end_s = expected, monotonic_s
            span = _Span(now - passed, now, monotonic_s)
            self._spans.append(span)
        span.end, span.end_s = now, monotonic_s
        return now

    def since(self, at: datetime) -> timedelta:
        """The time since `at`."""
        now = self.look()
        present, oldest = self._spans[-1], self._spans[0]
        if at > now or present.has(at):
            return now - at
        span = next((span for span in reversed(self._spans) if span.has(at)), None)
        if span is None:  # a time of another machine, or of before this process
            span = next((span for span in reversed(self._spans) if span.begin <= at), oldest)
        if span is not oldest:
            at = max(at, span.begin)
        return span.end - at + timedelta(seconds=present.end_s - span.end_s)


wall_clock = WallClock()
