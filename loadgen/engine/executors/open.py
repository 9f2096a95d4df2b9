"""OpenExecutor: sends arrivals at their intended times, whatever the target does."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice, takewhile
from typing import Final

from loadgen.arrivals.pacer import PRERECORDED, Arrival, build_pacer
from loadgen.arrivals.schedule import Schedule
from loadgen.engine.errors import AppError
from loadgen.engine.executors.base import (
    ARRIVALS_PER_TURN,
    TURN_NS,
    Command,
    CommandProgress,
    Executor,
    ExecutorContext,
)
from loadgen.engine.executors.registry import register
from loadgen.engine.http.connection import Connection
from loadgen.engine.http.sources import RequestTargets
from loadgen.engine.http.wire_request import QueuedRequest
from loadgen.protocol.enums import LoadModel
from loadgen.protocol.outcomes import Outcome

# Indexes of an arrival, which is a plain tuple: one is made for each request.
INTENDED_NS: Final = 0
CLIENT: Final = 1


@register(LoadModel.OPEN)
def build(context: ExecutorContext) -> Executor:
    """Returns the executor of a workload's schedule and arrival process."""
    workload = context.workload
    schedule = Schedule([(round(duration_s * 1e9), rate_rps) for duration_s, rate_rps in workload.schedule])
    pacer = build_pacer(
        workload.arrival_process,
        schedule,
        context.clients,
        context.total_clients,
        context.seed,
        workload.index,
        workload.arrival_parameters,
    )
    return OpenExecutor(context, iter(pacer), schedule.duration_ns)


class OpenExecutor:
    """Sends each due arrival, or records why it is not sent.

    It does not inherit from Executor: a compiled class cannot have an interpreted base class.

    Args:
        arrivals: in the order of their intended times.
        duration_ns: of the schedule.
    """

    sends_overdue = True

    def __init__(self, context: ExecutorContext, arrivals: Iterator[Arrival], duration_ns: int = 0) -> None:
        self.duration_ns = duration_ns
        self._arrivals = arrivals
        self._source = context.source
        self._targets = RequestTargets(context.source, context.pool)
        self._routes = context.routes
        self._pool = context.pool
        self._recorder = context.recorder
        # An arrival reached later than this is recorded, not sent as part of a catch-up burst.
        self._max_lateness_ns = round(context.workload.max_lateness_s * 1e9)
        self._max_in_flight = context.workload.max_in_flight
        # The k-th request of a recording belongs to its k-th time: one that is not sent takes its request with it.
        self._is_replay = context.workload.arrival_process == PRERECORDED
        self._next: Arrival | None = None
        self._begun = False
        self._start_ns = 0
        self._max_arrivals = ARRIVALS_PER_TURN  # in the next turn; fewer while their writes take longer than TURN_NS

    def start(self, start_ns: int) -> int | None:
        self.prepare()
        self._start_ns = start_ns
        return self.next_ns

    @property
    def next_ns(self) -> int | None:
        return self._next[INTENDED_NS] + self._start_ns if self._next is not None else None

    def end_before(self, end_ns: int) -> None:
        last_ns = end_ns - self._start_ns
        self._arrivals = takewhile(lambda arrival: arrival[INTENDED_NS] < last_ns, self._arrivals)
        if self._next is not None and self._next[INTENDED_NS] >= last_ns:
            self._next = None

    def keep(self, clients: Collection[int]) -> None:
        self._arrivals = filter(lambda arrival: arrival[CLIENT] in clients, self._arrivals)
        if self._next is not None and self._next[CLIENT] not in clients:
            self._next = next(self._arrivals, None)

    def retire(self) -> int:
        self._arrivals, self._next = iter(()), None
        return 0

    def begin(self, command: Command) -> None:
        raise RuntimeError("the open model takes no commands; only an interactive load does")

    @property
    def commands(self) -> CommandProgress:
        return CommandProgress(0, [])

    def on_idle(self) -> None:
        return

    def prepare(self) -> None:
        if not self._begun:
            self._begun = True
            self._next = next(self._arrivals, None)

    def is_over(self) -> bool:
        return self._begun and self._next is None

    def skip(self, before_ns: int, limit: int) -> bool:
        self.prepare()
        ends_ns = self._pool.now_ns() + TURN_NS
        for _ in range(limit):
            if self._next is None or self._next[INTENDED_NS] >= before_ns:
                return False
            if self._is_replay:
                self._source.skip_request(self._next[CLIENT])
            self._next = next(self._arrivals, None)
            self._recorder.skipped += 1
            if self._pool.now_ns() >= ends_ns:
                break  # a replay calls the client app, which may be slow: the lease must be renewed meanwhile
        return True

    def turn(self) -> int | None:
        burst: list[tuple[Connection, bytes]] = []
        try:
            return self._load(burst)
        finally:
            # A target that is faster than the generator sleeps between two writes, and each write has to wake it. So
            # the writes of a turn are made without other work between them.
            begun_ns = now_ns = self._pool.now_ns()
            for connection, data in burst:
                now_ns = connection.write(data, now_ns)
            if now_ns - begun_ns > TURN_NS:
                self._max_arrivals = max(1, self._max_arrivals // 2)
            elif self._max_arrivals < ARRIVALS_PER_TURN:
                self._max_arrivals += 1

    def _load(self, burst: list[tuple[Connection, bytes]]) -> int | None:
        """Sends or records each arrival that is due; returns what `turn` does.

        Args:
            burst: receives the requests that are ready to be written, each with its connection.
        """
        pool, next_host, fixed, version = self._pool, self._routes.next, self._targets.fixed, self._routes.version
        start_ns = self._start_ns
        arrivals, arrival = self._arrivals, self._next
        now_ns = pool.now_ns()
        budget, ends_ns = self._max_arrivals, now_ns + TURN_NS
        while arrival is not None and budget and now_ns < ends_ns:
            intended_ns, client, sequence = arrival
            intended_ns += start_ns
            if intended_ns > now_ns:
                return intended_ns
            budget -= 1
            self._next = arrival = next(arrivals, None)
            if now_ns - intended_ns > self._max_lateness_ns:
                self._not_sent(intended_ns, now_ns, client, sequence, Outcome.LATE)
            elif pool.in_flight >= self._max_in_flight:
                self._not_sent(intended_ns, now_ns, client, sequence, Outcome.DROPPED)
            elif (name := next_host(client, sequence)) is None:
                self._not_sent(intended_ns, now_ns, client, sequence, Outcome.NO_ROUTE)
            elif (target := fixed.get(name)) is None:
                try:
                    host, wire = self._targets.next(client, name)
                except AppError:
                    self._unsent(intended_ns, now_ns, client, sequence, Outcome.CUT)
                    raise
                now_ns = pool.now_ns()  # the time that an app takes is lateness, not connection wait
                pool.in_flight += 1
                # Sent now, not with the burst: it must not wait for the app's next calls.
                now_ns = host.send(intended_ns, now_ns, client, sequence, version, wire)
            else:
                host, wire = target
                pool.in_flight += 1
                connection = host.take_idle(now_ns)
                if connection is not None:
                    burst.append((connection, connection.load(intended_ns, client, sequence, version, wire)))
                else:
                    host.enqueue(QueuedRequest(intended_ns, now_ns, client, sequence, version, wire))
        return arrival[INTENDED_NS] + start_ns if arrival is not None else None

    def cut(self, limit: int) -> bool:
        self.prepare()
        if self._next is None:
            return False
        rest = [self._next, *islice(self._arrivals, limit - 1)]
        self._next = next(self._arrivals, None)
        self._recorder.cut(rest)
        return self._next is not None

    def _not_sent(self, intended_ns: int, dispatched_ns: int, client: int, sequence: int, outcome: Outcome) -> None:
        self._unsent(intended_ns, dispatched_ns, client, sequence, outcome)
        if self._is_replay:
            self._source.skip_request(client)

    def _unsent(self, intended_ns: int, dispatched_ns: int, client: int, sequence: int, outcome: Outcome) -> None:
        self._recorder.unsent(client, sequence, intended_ns, dispatched_ns, outcome, self._routes.version)
