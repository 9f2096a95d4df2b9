"""Deadlines: the time-outs of requests in one heap, which is swept every few milliseconds."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final, Protocol

NEVER: Final = 1 << 62
_SPARE: Final = 1024
_WHEN_NS: Final = 0  # index of an entry's time


class Timed(Protocol):
    """Can time out: `deadline_ns` is its request's deadline (NEVER without one), `queued_ns` belongs to the heap."""

    deadline_ns: int
    queued_ns: int

    def time_out(self) -> None: ...


class Deadlines:
    """A heap of at most a few entries per connection, without work per request.

    An entry is checked at its time. If the connection has a later deadline by then, as it has after each further
    request, the entry moves there. So a deadline is queued only if it is before the connection's entry.
    """

    __slots__ = ("_heap", "_queued")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timed]] = []
        self._queued = 0  # a running number, which orders entries of the same time

    def __len__(self) -> int:
        return len(self._heap)

    def queue(self, timed: Timed) -> None:
        """Adds a deadline; to be called if `timed.deadline_ns < timed.queued_ns`."""
        timed.queued_ns = timed.deadline_ns
        self._queued += 1
        heappush(self._heap, (timed.deadline_ns, self._queued, timed))

    def sweep(self, now_ns: int) -> None:
        """Times out every request whose deadline has passed."""
        heap = self._heap
        while heap and heap[0][_WHEN_NS] <= now_ns:
            when, _, timed = heappop(heap)
            if timed.queued_ns != when:
                continue  # queued again for an earlier time
            timed.queued_ns = NEVER
            if timed.deadline_ns <= now_ns:
                timed.time_out()
            elif timed.deadline_ns != NEVER:
                self.queue(timed)

    def forget_closed(self, open_connections: int) -> None:
        """Drops the entries without a request if there are many, so that closed connections are freed soon."""
        if len(self._heap) > 2 * open_connections + _SPARE:
            kept = []
            for entry in self._heap:
                when_ns, _, timed = entry
                if timed.queued_ns != when_ns:
                    continue
                if timed.deadline_ns != NEVER:
                    kept.append(entry)
                else:
                    timed.queued_ns = NEVER
            heapify(kept)
            self._heap = kept
