"""ClosedExecutor: a client waits for its response, pauses for its think time, and sends its next request."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from loadgen.arrivals.distributions import CONSTANT, sampler
from loadgen.engine.errors import AppError
from loadgen.engine.executors.base import ARRIVALS_PER_TURN, TURN_NS, Executor, ExecutorContext
from loadgen.engine.executors.registry import register
from loadgen.engine.http.sources import RequestTargets
from loadgen.protocol.enums import LoadModel
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.outcomes import FIRST_NOT_SENT, Outcome

# The least pause after a request that could not be sent: a refusing target would keep the core busy.
UNSENT_PAUSE_NS: Final = 100_000_000
_LONGEST_S: Final = 1e9  # of a think time: some distributions have no bound
# Indexes of an entry of the heap of due requests, which is a plain tuple: one is made for each request.
_INTENDED_NS: Final = 0
_CLIENT: Final = 1


class ClosedPlan:
    """When each client is active, and its think times.

    A client is active in the steps of more clients than its index. Its random source is seeded by (seed, workload,
    client), as in the open model: the think times do not depend on the placement.
    """

    def __init__(self, workload: WorkloadSpec, clients: Sequence[int], seed: int) -> None:
        self.clients = clients
        self.requests_per_client = workload.requests_per_client
        # (begin ns, end ns, clients); plain tuples, as one is unpacked for each request.
        self.steps: list[tuple[int, int, int]] = []
        end_ns = 0
        for duration_s, active in workload.schedule:
            begin_ns, end_ns = end_ns, end_ns + round(duration_s * 1e9)
            self.steps.append((begin_ns, end_ns, int(active)))
        self._think_time = workload.think_time, workload.think_time_parameters
        self._seed = f"{seed}/{workload.index}"

    def think_time(self, client: int) -> Callable[[], float] | None:
        """Returns a function that draws the client's next think time in seconds; None for a client without one."""
        name, parameters = self._think_time
        if name == CONSTANT and parameters == [0.0]:
            return None
        return sampler(name, parameters, random.Random(f"{self._seed}/{client}"))


class ClosedClient:
    """The state of a client.

    Attributes:
        sequence: number of its next request.
        left: requests that it may still send; below 0 for no limit.
    """

    __slots__ = ("_step", "_steps", "index", "left", "sequence", "think_s")

    def __init__(self, index: int, plan: ClosedPlan, sequence: int) -> None:
        self.index = index
        self.sequence = sequence
        self.left = plan.requests_per_client if plan.requests_per_client is not None else -1
        self.think_s = plan.think_time(index)
        self._steps = plan.steps  # shared by all clients: a plan may have many steps
        self._step = 0

    def next_at(self, at_ns: int) -> int | None:
        """Returns when the client, ready at that time since the start, sends its next request; None for never."""
        if not self.left:
            return None
        while self._step < len(self._steps):
            begin_ns, end_ns, active = self._steps[self._step]
            if at_ns < end_ns and self.index < active:
                return max(at_ns, begin_ns)
            self._step += 1
        return None


@register(LoadModel.CLOSED)
class ClosedExecutor(Executor):
    """Sends a client's next request after its response.

    A request is intended when the client's last response was complete, plus the think time. It is sent however late the
    generator is, as only its own client waits for it. `max_in_flight` does not apply: each client has one request.
    """

    def __init__(self, context: ExecutorContext) -> None:
        plan = ClosedPlan(context.workload, context.clients, context.seed)
        self._first_sequence = context.first_sequence
        self._clients = {index: ClosedClient(index, plan, context.first_sequence) for index in plan.clients}
        self._targets = RequestTargets(context.source, context.pool)
        self._routes = context.routes
        self._pool = context.pool
        self._recorder = context.recorder
        self._arm = context.arm
        self._on_error = context.on_error
        self._due: list[tuple[int, int]] = []  # a heap of (intended ns, client)
        self._start_ns = 0
        self._started = False

    def start(self, start_ns: int) -> int | None:
        self._started = True
        self._start_ns = start_ns
        self._pool.on_end = self._request_ended
        from_ns = max(start_ns, self._pool.now_ns())  # an attempt that takes over begins now
        for client in self._clients.values():
            self._plan_next(client, from_ns)
        return self.next_ns

    @property
    def next_ns(self) -> int | None:
        return self._due[0][_INTENDED_NS] if self._due else None

    def turn(self) -> int | None:
        pool, due = self._pool, self._due
        now_ns = pool.now_ns()
        budget, ends_ns = ARRIVALS_PER_TURN, now_ns + TURN_NS
        while due and due[0][_INTENDED_NS] <= now_ns < ends_ns and budget:
            budget -= 1
            intended_ns, index = heappop(due)
            now_ns = self._send(self._clients[index], intended_ns, now_ns)
        return due[0][_INTENDED_NS] if due else None

    def is_over(self) -> bool:
        return self._started and not self._due

    def skip(self, before_ns: int, limit: int) -> bool:
        # The number of requests until now is unknown; a number above 0 shows that this attempt is not the first.
        self._recorder.skipped = len(self._clients) if before_ns > 0 else 0
        return False

    def keep(self, clients: Collection[int]) -> None:
        for client in self._clients.values():
            if client.index not in clients:
                client.left = 0
        self._due = [due for due in self._due if due[_CLIENT] in clients]
        heapify(self._due)

    def retire(self) -> int:
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
                self._arm(self._due[0][_INTENDED_NS])
            return now_ns
        target = self._targets.fixed.get(name)
        if target is None:
            try:
                target = self._targets.next(client.index, name)
            except AppError:
                self._recorder.unsent(client.index, sequence, intended_ns, now_ns, Outcome.CUT, self._routes.version)
                raise
            now_ns = self._pool.now_ns()  # the time that an app takes is lateness, not connection wait
        host, wire = target
        self._pool.in_flight += 1
        return host.send(intended_ns, now_ns, client.index, sequence, self._routes.version, wire)

    def _request_ended(self, index: int, sequence: int, outcome: int) -> None:
        """Plans the client's next request, and sends the earliest one, mostly this one, without waiting for a turn."""
        if sequence < self._first_sequence:
            return  # an earlier command of an interactive group sent it
        client, pool = self._clients[index], self._pool
        now_ns = pool.now_ns()
        if not self._plan_next(client, self._ready_ns(client, now_ns, outcome)):
            return
        due = self._due
        if due[0][_INTENDED_NS] > now_ns or now_ns >= pool.send_until_ns:
            self._arm(due[0][_INTENDED_NS])
            return
        intended_ns, index = heappop(due)
        try:
            self._send(self._clients[index], intended_ns, now_ns)
        except Exception as error:  # noqa: BLE001
            self._on_error(error)  # the event loop would only log it, and the client would send no more

    def _ready_ns(self, client: ClosedClient, now_ns: int, outcome: int) -> int:
        """Returns when the client is ready for its next request, now that its last one has ended."""
        think_ns = max(0, round(min(client.think_s(), _LONGEST_S) * 1e9)) if client.think_s is not None else 0
        return now_ns + (max(think_ns, UNSENT_PAUSE_NS) if outcome >= FIRST_NOT_SENT else think_ns)

    def _plan_next(self, client: ClosedClient, ready_ns: int) -> bool:
        """Adds the client's next request to the heap; returns whether there is one."""
        next_ns = client.next_at(ready_ns - self._start_ns)
        if next_ns is None:
            return False
        heappush(self._due, (next_ns + self._start_ns, client.index))
        return True
