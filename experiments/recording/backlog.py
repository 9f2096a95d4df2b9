"""Backlog: received samples and events that are not stored yet. Above its bound, they are dropped and counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from django.utils import timezone

from loadgen.protocol.topics import Mark, Sample

# Two minutes of the samples of thirty nodes; about 50 MB.
LIMIT = 100_000
MAX_TALLIES = 3600


@dataclass(frozen=True, slots=True)
class Arrival:
    """A sample or an event, and its arrival by the controller's clock, which also times the starts of experiments."""

    at: datetime
    content: Sample | Mark


@dataclass
class Tally:
    """Messages of one second that cannot be stored."""

    unparsable: int = 0
    dropped: int = 0
    example: str = ""  # a message that could not be parsed

    def add(self, other: Tally) -> None:
        self.unparsable += other.unparsable
        self.dropped += other.dropped
        self.example = self.example or other.example


@dataclass(frozen=True)
class Taken:
    """Arrivals and tallies to be stored in one transaction; tallies are keyed by their second."""

    arrivals: list[Arrival] = field(default_factory=list)
    tallies: dict[datetime, Tally] = field(default_factory=dict)

    @property
    def times(self) -> list[datetime]:
        """The times of all arrivals and tallies, unordered."""
        return [*(arrival.at for arrival in self.arrivals), *self.tallies]


class Backlog:
    """Filled by one thread, and emptied by another."""

    def __init__(self, limit: int = LIMIT, now: Callable[[], datetime] = timezone.now) -> None:
        self._limit = limit
        self._now = now
        self._arrivals: deque[Arrival] = deque()
        self._tallies: dict[datetime, Tally] = {}
        self._changed = threading.Condition()
        self._awaited = 0  # number of arrivals that ends the wait

    def __len__(self) -> int:
        return len(self._arrivals)

    def add(self, content: Sample | Mark) -> None:
        with self._changed:
            at = self._now()
            if len(self._arrivals) >= self._limit:
                self._tally(at, Tally(dropped=1))
            else:
                self._arrivals.append(Arrival(at, content))
                if len(self._arrivals) >= self._awaited:
                    self._changed.notify()

    def note_dropped(self, count: int) -> None:
        with self._changed:
            self._tally(self._now(), Tally(dropped=count))

    def note_unparsable(self, example: str) -> None:
        with self._changed:
            self._tally(self._now(), Tally(unparsable=1, example=example))

    def wait(self, for_arrivals: int, at_most_s: float) -> None:
        """Waits for that number of arrivals, at most for the given time."""
        with self._changed:
            self._awaited = for_arrivals
            self._changed.wait_for(lambda: len(self._arrivals) >= for_arrivals, at_most_s)

    def take(self, at_most: int) -> Taken:
        """Removes and returns the oldest arrivals and all tallies."""
        with self._changed:
            arrivals = [self._arrivals.popleft() for _ in range(min(at_most, len(self._arrivals)))]
            tallies, self._tallies = self._tallies, {}
            return Taken(arrivals, tallies)

    def give_back(self, taken: Taken) -> None:
        """Puts back arrivals and tallies that could not be stored, in their order."""
        with self._changed:
            self._arrivals.extendleft(reversed(taken.arrivals))
            for second, tally in taken.tallies.items():
                self._tally(second, tally)

    def _tally(self, at: datetime, tally: Tally) -> None:
        second = at.replace(microsecond=0)
        if second not in self._tallies and len(self._tallies) >= MAX_TALLIES:
            second = max(self._tallies)
        self._tallies.setdefault(second, Tally()).add(tally)
