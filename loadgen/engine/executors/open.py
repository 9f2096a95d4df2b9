"""Takes due arrivals from the pacer and decides what becomes of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice, takewhile
from typing import Final, Protocol

from loadgen.engine.errors import AppError
from loadgen.engine.http.connection import Connection
from loadgen.engine.http.pool import Pool
from loadgen.engine.http.request_targets import Aims
from loadgen.engine.http.sources import RequestSource
from loadgen.engine.recorder import Recorder
from loadgen.engine.routes import Routes
from loadgen.protocol.outcomes import Outcome

# Arrivals per turn of the loop: when many are due, responses are read in between.
ARRIVALS_PER_TURN: Final = 32
# A slow client app, or slow writes, must not keep responses waiting: the generator's time would look like the target's.
TURN_NS: Final = 1_000_000

Arrival = tuple[int, int, int]
# A connection that is to write a request, and the request's bytes.
Loaded = tuple[Connection, bytes]


class Dispatcher(Protocol):
    """Sends what is due. Times are of the monotonic clock; the schedule's zero is what `start` was told."""

    def prepare(self) -> None:
        """Does what takes long before the start; each of the others does it, if need be."""

    def start(self, start_ns: int) -> int | None:
        """When to take the first turn."""

    def turn(self) -> int | None:
        """Dispatches what is due; returns when to call it again, None when nothing is left that it knows of.

        Raises:
            AppError: a request source is wrong; the arrival that met it is recorded as CUT.
        """

    def is_over(self) -> bool:
        """Whether nothing will be sent any more, once what is in flight has ended."""

    def skip(self, before_ns: int, limit: int) -> bool:
        """Leaves out at most `limit` arrivals intended before then (since the schedule's zero), counted but without a
        row; False when there are no more of them."""

    def cut(self, limit: int) -> bool:
        """Records at most `limit` of the remaining arrivals as CUT; False when none is left."""


class OpenDispatcher:
    """Gives each due arrival of a pacer to the pool, or records why it is not sent.

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
        self._aims = Aims(source, pool)
        self._routes = routes
        self._pool = pool
        self._recorder = recorder
        self._max_lateness_ns = max_lateness_ns
        self._max_in_flight = max_in_flight
        self._next: Arrival | None = None
        self._begun = False
        self._start_ns = 0
        self._most = ARRIVALS_PER_TURN  # in the next turn: fewer where so many writes take longer than a turn may

    def start(self, start_ns: int) -> int | None:
        self.prepare()
        self._start_ns = start_ns
        return self.next_ns

    @property
    def next_ns(self) -> int | None:
        """When the next arrival is due; None when none is left."""
        return self._next[0] + self._start_ns if self._next is not None else None

    def end_before(self, end_ns: int) -> None:
        """Leaves out, without a row, what is intended then or later; to be called after the start."""
        last_ns = end_ns - self._start_ns
        self._arrivals = takewhile(lambda arrival: arrival[0] < last_ns, self._arrivals)
        if self._next is not None and self._next[0] >= last_ns:
            self._next = None

    def keep(self, clients: Collection[int]) -> None:
        """Leaves out, without a row, the arrivals of all other clients; to be called after the start."""
        self._arrivals = filter(lambda arrival: arrival[1] in clients, self._arrivals)
        if self._next is not None and self._next[1] not in clients:
            self._next = next(self._arrivals, None)

    def prepare(self) -> None:
        if not self._begun:
            self._begun = True
            self._next = next(self._arrivals, None)

    def is_over(self) -> bool:
        return self._begun and self._next is None

    def skip(self, before_ns: int, limit: int) -> bool:
        self.prepare()
        for _ in range(limit):
            if self._next is None or self._next[0] >= before_ns:
                return False
            self._next = next(self._arrivals, None)
            self._recorder.skipped += 1
        return True

    def turn(self) -> int | None:
        burst: list[Loaded] = []
        try:
            return self._load(burst)
        finally:
            # A target that is quicker than we are falls asleep between two writes, and who writes then has to wake it.
            # So nothing else is done in between.
            begun_ns = now_ns = self._pool.now_ns()
            for connection, data in burst:
                now_ns = connection.write(data, now_ns)
            if now_ns - begun_ns > TURN_NS:
                self._most = max(1, self._most // 2)
            elif self._most < ARRIVALS_PER_TURN:
                self._most += 1

    def _load(self, burst: list[Loaded]) -> int | None:
        """Decides what becomes of each arrival that is due; returns what `turn` does."""
        pool, next_host, fixed, version = self._pool, self._routes.next, self._aims.fixed, self._routes.version
        start_ns = self._start_ns
        arrivals, arrival = self._arrivals, self._next
        now_ns = pool.now_ns()
        budget, ends_ns = self._most, now_ns + TURN_NS
        while arrival is not None and budget and now_ns < ends_ns:
            intended_ns, client, sequence = arrival
            intended_ns += start_ns
            if intended_ns > now_ns:
                return intended_ns
            budget -= 1
            self._next = arrival = next(arrivals, None)
            if now_ns - intended_ns > self._max_lateness_ns:
                self._unsent(intended_ns, now_ns, client, sequence, Outcome.LATE)
            elif pool.in_flight >= self._max_in_flight:
                self._unsent(intended_ns, now_ns, client, sequence, Outcome.DROPPED)
            elif (name := next_host(client, sequence)) is None:
                self._unsent(intended_ns, now_ns, client, sequence, Outcome.NO_ROUTE)
            elif (aim := fixed.get(name)) is None:
                try:
                    host, wire = self._aims.take(client, name)
                except AppError:
                    self._unsent(intended_ns, now_ns, client, sequence, Outcome.CUT)
                    raise
                now_ns = pool.now_ns()  # what an app takes is lateness, not a wait for a connection
                pool.in_flight += 1
                # At once: it need not wait for the time that an app takes for others.
                now_ns = host.send(intended_ns, now_ns, client, sequence, version, wire)
            else:
                host, wire = aim
                pool.in_flight += 1
                if host.idle:
                    connection, _ = host.idle.popitem()
                    burst.append((connection, connection.load(intended_ns, client, sequence, version, wire)))
                else:
                    host.wait((intended_ns, now_ns, client, sequence, version, wire, None))
        return arrival[0] + start_ns if arrival is not None else None

    def cut(self, limit: int) -> bool:
        self.prepare()
        if self._next is None:
            return False
        rest = [self._next, *islice(self._arrivals, limit - 1)]
        self._next = next(self._arrivals, None)
        self._recorder.cut(rest)
        return self._next is not None

    def _unsent(self, intended_ns: int, dispatched_ns: int, client: int, sequence: int, outcome: Outcome) -> None:
        self._recorder.unsent(client, sequence, intended_ns, dispatched_ns, outcome, self._routes.version)
