"""Takes due arrivals from the pacer and decides what becomes of each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from loadgen.batch import NO_TIME
from loadgen.engine.errors import AppError
from loadgen.engine.pool import Pool
from loadgen.engine.recorder import Recorder
from loadgen.engine.routes import Routes
from loadgen.engine.sources import RequestSource
from loadgen.messages import Outcome

# Arrivals per turn of the loop: when many are due, responses are read in between.
ARRIVALS_PER_TURN: Final = 64
# A slow client app must not keep responses waiting: the generator's time would look like the target's.
TURN_NS: Final = 1_000_000

Arrival = tuple[int, int, int]


class Dispatcher:
    """Gives each due arrival to the pool, or records why it is not sent.

    Args:
        arrivals: (intended ns, client, sequence) in the order of time.
        max_lateness_ns: an arrival reached later than this is recorded, not sent as part of a catch-up burst.
        max_in_flight: an arrival that finds so many requests in flight is dropped.
    """

    def __init__(
        self,
        arrivals: Iterator[Arrival],
        source: RequestSource,
        routes: Routes,
        pool: Pool,
        recorder: Recorder,
        max_lateness_ns: int,
        max_in_flight: int,
    ) -> None:
        self._arrivals = arrivals
        self._source = source
        self._routes = routes
        self._pool = pool
        self._recorder = recorder
        self._max_lateness_ns = max_lateness_ns
        self._max_in_flight = max_in_flight
        self._next: Arrival | None = None
        self._begun = False

    def begin(self) -> int | None:
        """When the first arrival is intended; None when there is none."""
        if not self._begun:
            self._begun = True
            self._next = next(self._arrivals, None)
        return self._next[0] if self._next is not None else None

    def skip(self, before_ns: int, limit: int) -> bool:
        """Leaves out at most `limit` arrivals intended before then, counted but without a row; False at the end."""
        self.begin()
        for _ in range(limit):
            if self._next is None or self._next[0] >= before_ns:
                return False
            self._next = next(self._arrivals, None)
            self._recorder.skipped += 1
        return True

    def turn(self) -> int | None:
        """Dispatches what is due; returns when to call it again, None after the last arrival.

        Raises:
            AppError: a request source is wrong; the arrival that met it is recorded as CUT.
        """
        pool, routes, source = self._pool, self._routes, self._source
        arrivals, arrival = self._arrivals, self._next
        now_ns = pool.now_ns()
        budget, ends_ns = ARRIVALS_PER_TURN, now_ns + TURN_NS
        while arrival is not None and arrival[0] <= now_ns < ends_ns and budget:
            budget -= 1
            intended_ns, client, sequence = arrival
            self._next = arrival = next(arrivals, None)
            if now_ns - intended_ns > self._max_lateness_ns:
                self._unsent(intended_ns, now_ns, client, sequence, Outcome.LATE)
            elif pool.in_flight >= self._max_in_flight:
                self._unsent(intended_ns, now_ns, client, sequence, Outcome.DROPPED)
            elif (name := routes.next()) is None:
                self._unsent(intended_ns, now_ns, client, sequence, Outcome.NO_ROUTE)
            else:
                try:
                    wire = source.wire(client, name)
                except AppError:
                    self._unsent(intended_ns, now_ns, client, sequence, Outcome.CUT)
                    raise
                host = pool.hosts.get(name) or pool.host(name)
                pool.in_flight += 1
                # The time after this request is the time at which the next one is looked at.
                now_ns = host.send(intended_ns, now_ns, client, sequence, routes.version, wire)
        return arrival[0] if arrival is not None else None

    def cut(self, limit: int) -> bool:
        """Records at most `limit` of the remaining arrivals as CUT; False when none is left."""
        self.begin()
        if self._next is None:
            return False
        rest = [self._next, *islice(self._arrivals, limit - 1)]
        self._next = next(self._arrivals, None)
        self._recorder.cut(rest)
        return self._next is not None

    def _unsent(self, intended_ns: int, dispatched_ns: int, client: int, sequence: int, outcome: Outcome) -> None:
        self._recorder.row(
            client, sequence, intended_ns, dispatched_ns, NO_TIME, NO_TIME, outcome, 0, None, 0, self._routes.version
        )
