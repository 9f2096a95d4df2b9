"""Time-outs of requests: one heap, swept every few milliseconds, and no work per request."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final, Protocol

NEVER: Final = 1 << 62
_SPARE = 1024


class Timed(Protocol):
    """Who can time out: `deadline_ns` is when its request does (NEVER without one), `queued_ns` belongs to the heap."""

    deadline_ns: int
    queued_ns: int

    def time_out(self) -> None: ...


class Deadlines:
    """A heap of at most a few entries per connection.

    An entry is looked at when its time comes: if the connection's request has a later deadline by then, as it has after
    each further request, the entry moves there. So a deadline is queued only when it lies before the connection's
    entry.
    """

    __slots__ = ("_heap", "_queued")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timed]] = []
        self._queued = 0  # a running number keeps entries of the same time apart

    def __len__(self) -> int:
        return len(self._heap)

    def queue(self, timed: Timed) -> None:
        """To be called when `timed.deadline_ns < timed.queued_ns`."""
        timed.queued_ns = timed.deadline_ns
        self._queued += 1
        heappush(self._heap, (timed.deadline_ns, self._queued, timed))

    def sweep(self, now_ns: int) -> None:
        """Times out every request whose deadline has come."""
        heap = self._heap
        while heap and heap[0][0] <= now_ns:
            when, _, timed = heappop(heap)
            if timed.queued_ns != when:
                continue  # it was queued again for an earlier time
            timed.queued_ns = NEVER
            if timed.deadline_ns <= now_ns:
                timed.time_out()
            elif timed.deadline_ns != NEVER:
                self.queue(timed)

    def forget_closed(self, open_connections: int) -> None:
        """Drops entries without a request when they have become many: closed connections are not kept for long."""
        if len(self._heap) > 2 * open_connections + _SPARE:
            kept = []
            for entry in self._heap:
                if entry[2].deadline_ns != NEVER and entry[2].queued_ns == entry[0]:
                    kept.append(entry)
                elif entry[2].queued_ns == entry[0]:
                    entry[2].queued_ns = NEVER
            heapify(kept)
            self._heap = kept
