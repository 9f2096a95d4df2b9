"""Interactive loads: one phase follows on another, as the user commands them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from loadgen.arrivals.pacer import ConstantPacer, GapsPacer, phase_of
from loadgen.arrivals.schedule import Schedule
from loadgen.engine.executors.closed import ClosedDispatcher, ClosedPlan
from loadgen.engine.executors.open import Arrival, OpenDispatcher
from loadgen.engine.http.pool import Pool
from loadgen.engine.http.sources import RequestSource
from loadgen.engine.recorder import Recorder
from loadgen.engine.routes import Routes
from loadgen.protocol.messages import BACK_TO_BACK, CLOSED, GAPS, RATE, Phase, WorkloadSpec

# How long a rate lasts that nobody changes: as long as nanoseconds in a float are exact to some tenths.
_FOREVER_NS: Final = 1 << 53
_DONE_KEPT: Final = 32  # numbers of phases


class Coming(NamedTuple):
    """A phase, when it begins by the monotonic clock, and the group's clients from then on, in order."""

    at_ns: int
    phase: Phase
    clients: Sequence[int]


class PhasedDispatcher:
    """A Dispatcher that sends what the phase in force says, until it has no clients left.

    A phase begins at its time, whatever the one before has left undone; what that one has in flight ends as it ends.
    Sequence numbers of a phase begin above all of those before it.

    Args:
        clients: those of this shard; a phase goes on with those of them that are the group's still.
        first_sequence: of the first phase.
        wake: has `turn` called at a time of the monotonic clock.
        fail: ends the load when a request source, or this code, is wrong.
    """

    def __init__(
        self,
        workload: WorkloadSpec,
        clients: Sequence[int],
        seed: int,
        first_sequence: int,
        source: RequestSource,
        routes: Routes,
        pool: Pool,
        recorder: Recorder,
        wake: Callable[[int | None], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._workload = workload
        self._clients = clients
        self._seed = seed
        self._next_sequence = first_sequence
        self._source = source
        self._routes = routes
        self._pool = pool
        self._recorder = recorder
        self._wake = wake
        self._fail = fail
        self._max_lateness_ns = round(workload.max_lateness_s * 1e9)
        self._coming: deque[Coming] = deque()
        self._phase: Phase | None = None
        self._current: OpenDispatcher | ClosedDispatcher | None = None
        self._done: deque[int] = deque(maxlen=_DONE_KEPT)
        self._started = False

    @property
    def begun(self) -> int:
        """Number of the phase in force; 0 before the first."""
        return self._phase.number if self._phase is not None else 0

    @property
    def done(self) -> list[int]:
        """Numbers of the newest phases all of whose requests were made and have ended, before another began."""
        return list(self._done)

    def begin(self, coming: Coming) -> None:
        """Lets a phase follow on those that were given before; one that is older than they are is left alone."""
        newest = self._coming[-1].phase.number if self._coming else self.begun
        if coming.phase.number < newest:
            return
        self._coming.append(coming)
        self._bound()
        if self._started:
            self._wake(self._pool.now_ns())

    def keep(self, clients: Sequence[int]) -> None:
        """Closes this shard's clients that are not among the group's any more; the others go on undisturbed."""
        left = set(clients)
        if left.issuperset(self._clients):
            return
        self._clients = [client for client in self._clients if client in left]
        if not self._clients:
            self._retire()
        elif self._current is not None:
            self._current.keep(left)
            self._wake(self._pool.now_ns())

    def settle(self) -> None:
        """To be called while nothing is in flight: the phase in force may be done, unless another is to end it."""
        if self._phase is None or self._coming or self._current is None or not self._current.is_over():
            return
        if not self._done or self._done[-1] != self._phase.number:
            self._done.append(self._phase.number)

    # --- As a Dispatcher

    def prepare(self) -> None:
        return

    def start(self, start_ns: int) -> int | None:
        self._started = True
        return self._coming[0].at_ns if self._coming else None

    def turn(self) -> int | None:
        now_ns = self._pool.now_ns()
        is_due = bool(self._coming) and self._coming[0].at_ns <= now_ns
        next_ns: int | None = None
        if self._current is not None and not (is_due and self._is_left_behind(now_ns)):
            next_ns = self._current.turn()
        if is_due and next_ns is None:
            next_ns = self._switch(self._coming.popleft())
        if not self._coming:
            return next_ns
        at_ns = self._coming[0].at_ns
        return at_ns if next_ns is None else min(next_ns, at_ns)

    def _is_left_behind(self, now_ns: int) -> bool:
        """Whether the phase in force sends no more, although the next one is due.

        Of a schedule, what was intended before that is sent first, as far as it is no backlog: nobody could stop gaps
        of nothing. Who sends back to back stops at once.
        """
        return isinstance(self._current, ClosedDispatcher) or now_ns - self._coming[0].at_ns > self._max_lateness_ns

    def is_over(self) -> bool:
        return self._started and not self._clients

    def skip(self, before_ns: int, limit: int) -> bool:
        return False

    def cut(self, limit: int) -> bool:
        return False  # what a command has left undone was never planned

    # --- One phase after the other

    def _switch(self, coming: Coming) -> int | None:
        self._retire()
        self._phase = coming.phase
        left = set(coming.clients)
        self._clients = [client for client in self._clients if client in left]
        self._current = self._build(coming.phase, coming.clients)
        if self._current is None:
            return None
        next_ns = self._current.start(coming.at_ns)
        self._bound()
        return self._current.next_ns if isinstance(self._current, OpenDispatcher) else next_ns

    def _retire(self) -> None:
        if isinstance(self._current, ClosedDispatcher):
            self._next_sequence = max(self._next_sequence, self._current.retire())
        self._current = None

    def _bound(self) -> None:
        """The schedule in force ends where the next phase begins."""
        if self._coming and isinstance(self._current, OpenDispatcher):
            self._current.end_before(self._coming[0].at_ns)

    def _build(self, phase: Phase, clients: Sequence[int]) -> OpenDispatcher | ClosedDispatcher | None:
        """None for a phase that sends nothing."""
        if not self._clients:
            return None
        if phase.kind == RATE and phase.rate_rps > 0:
            # The pacer deals arrivals out to places 0, 1, …: clients that were closed have left gaps in the indexes.
            place = {client: number for number, client in enumerate(clients)}
            own = {place[client]: client for client in self._clients}
            schedule = Schedule([(_FOREVER_NS, phase.rate_rps * len(clients))])
            pacer = ConstantPacer(schedule, list(own), len(clients), phase_of(self._workload.index))
            return self._open((at_ns, own[number], sequence) for at_ns, number, sequence in pacer)
        if phase.kind == GAPS:
            seed = f"{self._seed}/{self._workload.index}/{phase.number}"
            gaps = (phase.distribution, phase.parameters, phase.requests)
            return self._open(GapsPacer(*gaps, self._clients, seed, phase.recorded))
        if phase.kind == BACK_TO_BACK:
            return self._closed(phase)
        return None

    def _open(self, pacer: Iterable[Arrival]) -> OpenDispatcher:
        return OpenDispatcher(
            self._numbered(pacer, self._next_sequence),
            self._source,
            self._routes,
            self._pool,
            self._recorder,
            self._max_lateness_ns,
            self._workload.max_in_flight,
        )

    def _closed(self, phase: Phase) -> ClosedDispatcher:
        workload = replace(
            self._workload,
            model=CLOSED,
            schedule=[[_FOREVER_NS / 1e9, float(max(self._clients) + 1)]],
            requests_per_client=phase.requests,
        )
        return ClosedDispatcher(
            ClosedPlan(workload, self._clients, self._seed),
            self._next_sequence,
            self._source,
            self._routes,
            self._pool,
            self._recorder,
            self._wake_for_current,
            self._fail,
        )

    def _wake_for_current(self, next_ns: int | None) -> None:
        """For the phase in force; the one that is to follow begins on time all the same."""
        if next_ns is not None and self._coming:
            next_ns = min(next_ns, self._coming[0].at_ns)
        self._wake(next_ns)

    def _numbered(self, arrivals: Iterable[Arrival], first_sequence: int) -> Iterator[Arrival]:
        for intended_ns, client, number in arrivals:
            sequence = first_sequence + number
            if sequence >= self._next_sequence:
                self._next_sequence = sequence + 1
            yield intended_ns, client, sequence
