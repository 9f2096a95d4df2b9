"""The closed model: a client waits for its response, pauses for its think time, and sends its next request."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from loadgen.arrivals.distributions import CONSTANT, sampler
from loadgen.engine.errors import AppError
from loadgen.engine.executors.open import ARRIVALS_PER_TURN, TURN_NS
from loadgen.engine.http.pool import Pool
from loadgen.engine.http.request_targets import Aims
from loadgen.engine.http.sources import RequestSource
from loadgen.engine.recorder import Recorder
from loadgen.engine.routes import Routes
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.outcomes import FIRST_NOT_SENT, Outcome

# A client whose request could not be sent pauses so long at least: a refusing target would keep the core busy.
UNSENT_PAUSE_NS: Final = 100_000_000
_LONGEST_S: Final = 1e9  # of a think time: some distributions have no bound


class ClosedPlan:
    """When each client is active, and how long it thinks.

    Client c is active in the schedule's steps of more than c clients. A client's random source is seeded by (seed,
    workload, client), as in the open model: placement does not change its think times.
    """

    def __init__(self, workload: WorkloadSpec, clients: Sequence[int], seed: int) -> None:
        self.clients = clients
        self.requests_per_client = workload.requests_per_client
        self.steps: list[tuple[int, int, int]] = []  # begin, end, clients
        end_ns = 0
        for duration_s, active in workload.schedule:
            begin_ns, end_ns = end_ns, end_ns + round(duration_s * 1e9)
            self.steps.append((begin_ns, end_ns, int(active)))
        self._think_time = workload.think_time, workload.think_time_parameters
        self._seed = f"{seed}/{workload.index}"

    def think_time(self, client: int) -> Callable[[], float] | None:
        """Draws the client's next think time, in seconds; None: it does not think."""
        name, parameters = self._think_time
        if name == CONSTANT and parameters == [0.0]:
            return None
        return sampler(name, parameters, random.Random(f"{self._seed}/{client}"))


class ClosedClient:
    """A client between two requests, or with one in flight."""

    __slots__ = ("_step", "_steps", "index", "left", "sequence", "think_s")

    def __init__(self, index: int, plan: ClosedPlan, sequence: int) -> None:
        self.index = index
        self.sequence = sequence
        self.left = plan.requests_per_client if plan.requests_per_client is not None else -1
        self.think_s = plan.think_time(index)
        self._steps = plan.steps  # shared: a long plan's windows for each of many clients would fill the memory
        self._step = 0

    def next_at(self, at_ns: int) -> int | None:
        """When the client, ready at that time since the start, sends its next request; None: never again."""
        if not self.left:
            return None
        while self._step < len(self._steps):
            begin_ns, end_ns, active = self._steps[self._step]
            if at_ns < end_ns and self.index < active:
                return max(at_ns, begin_ns)
            self._step += 1
        return None


class ClosedDispatcher:
    """A Dispatcher whose arrivals follow from completions.

    An arrival is intended when its client's response was complete, plus the think time. It is sent however late the
    generator is: nobody but its client waits. `max_in_flight` has no meaning here, as each client has one request.

    Args:
        first_sequence: of each client.
        wake: arms the engine's timer for a time of the monotonic clock.
        fail: ends the load when a request source, or this code, is wrong.
    """

    def __init__(
        self,
        plan: ClosedPlan,
        first_sequence: int,
        source: RequestSource,
        routes: Routes,
        pool: Pool,
        recorder: Recorder,
        wake: Callable[[int | None], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._clients = {index: ClosedClient(index, plan, first_sequence) for index in plan.clients}
        self._first_sequence = first_sequence
        self._aims = Aims(source, pool)
        self._routes = routes
        self._pool = pool
        self._recorder = recorder
        self._wake = wake
        self._fail = fail
        self._due: list[tuple[int, int]] = []  # a heap of (intended, client)
        self._start_ns = 0
        self._started = False

    def start(self, start_ns: int) -> int | None:
        self._started = True
        self._start_ns = start_ns
        self._pool.on_end = self._request_ended
        from_ns = max(start_ns, self._pool.now_ns())  # who takes over begins now
        for client in self._clients.values():
            self._plan_next(client, from_ns)
        return self._due[0][0] if self._due else None

    def turn(self) -> int | None:
        pool, due = self._pool, self._due
        now_ns = pool.now_ns()
        budget, ends_ns = ARRIVALS_PER_TURN, now_ns + TURN_NS
        while due and due[0][0] <= now_ns < ends_ns and budget:
            budget -= 1
            intended_ns, index = heappop(due)
            now_ns = self._send(self._clients[index], intended_ns, now_ns)
        return due[0][0] if due else None

    def prepare(self) -> None:
        return

    def is_over(self) -> bool:
        return self._started and not self._due

    def skip(self, before_ns: int, limit: int) -> bool:
        # How many requests there would have been until now nobody knows; but this attempt is not the first.
        self._recorder.skipped = len(self._clients) if before_ns > 0 else 0
        return False

    def cut(self, limit: int) -> bool:
        return False

    def keep(self, clients: Collection[int]) -> None:
        """All other clients send nothing any more."""
        for client in self._clients.values():
            if client.index not in clients:
                client.left = 0
        self._due = [due for due in self._due if due[1] in clients]
        heapify(self._due)

    def retire(self) -> int:
        """Sends nothing any more; returns a sequence number above all that were given out."""
        self._pool.on_end = None
        self._due.clear()
        return max(client.sequence for client in self._clients.values())

    def _send(self, client: ClosedClient, intended_ns: int, now_ns: int) -> int:
        """Sends the client's next request; returns the time after that. Raises AppError, as `turn` does."""
        sequence = client.sequence
        client.sequence = sequence + 1
        client.left -= 1
        name = self._routes.next(client.index, sequence)
        if name is None:
            self._recorder.unsent(client.index, sequence, intended_ns, now_ns, Outcome.NO_ROUTE, self._routes.version)
            if self._plan_next(client, self._ready_ns(client, now_ns, Outcome.NO_ROUTE)):
                self._wake(self._due[0][0])
            return now_ns
        aim = self._aims.fixed.get(name)
        if aim is None:
            try:
                aim = self._aims.take(client.index, name)
            except AppError:
                self._recorder.unsent(client.index, sequence, intended_ns, now_ns, Outcome.CUT, self._routes.version)
                raise
            now_ns = self._pool.now_ns()  # what an app takes is lateness, not a wait for a connection
        host, wire = aim
        self._pool.in_flight += 1
        return host.send(intended_ns, now_ns, client.index, sequence, self._routes.version, wire)

    def _request_ended(self, index: int, sequence: int, outcome: int) -> None:
        """The client thinks; or who is due first, mostly this client, sends at once, without waiting for a turn."""
        if sequence < self._first_sequence:
            return  # it was sent in an earlier phase
        client, pool = self._clients[index], self._pool
        now_ns = pool.now_ns()
        if not self._plan_next(client, self._ready_ns(client, now_ns, outcome)):
            return
        due = self._due
        if due[0][0] > now_ns or now_ns >= pool.send_until_ns:
            self._wake(due[0][0])
            return
        intended_ns, index = heappop(due)
        try:
            self._send(self._clients[index], intended_ns, now_ns)
        except Exception as error:  # noqa: BLE001
            self._fail(error)  # raised to the loop it would be logged, and the client would silently be gone

    def _ready_ns(self, client: ClosedClient, now_ns: int, outcome: int) -> int:
        think_ns = max(0, round(min(client.think_s(), _LONGEST_S) * 1e9)) if client.think_s is not None else 0
        return now_ns + (max(think_ns, UNSENT_PAUSE_NS) if outcome >= FIRST_NOT_SENT else think_ns)

    def _plan_next(self, client: ClosedClient, ready_ns: int) -> bool:
        """Puts the client's next request on the heap; False when there is none."""
        next_ns = client.next_at(ready_ns - self._start_ns)
        if next_ns is None:
            return False
        heappush(self._due, (next_ns + self._start_ns, client.index))
        return True
