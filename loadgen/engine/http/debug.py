"""DebugPool: the pool of the debug router, which answers each request at once with status 200 and sends nothing.

The schedule, the client apps and the rows are the usual ones. It serves to try out a plan and its apps without a
target, and to measure the cost of the generator itself.
"""

from __future__ import annotations

import asyncio
from typing import Final

from loadgen.engine.http.dialer import Dialer
from loadgen.engine.http.pool import HostPool, Pool
from loadgen.engine.http.wire_request import QueuedRequest
from loadgen.protocol.outcomes import Outcome

COMPLETED: Final = int(Outcome.COMPLETED)
_OK: Final = 200


class DebugHost(HostPool):
    """Answers in the loop's next turn: in the closed model, an answer is followed by the client's next request."""

    __slots__ = ("_unanswered",)

    def __init__(self, pool: Pool, name: str, dialer: Dialer) -> None:
        super().__init__(pool, name, dialer)
        self._unanswered: list[tuple[QueuedRequest, int]] = []  # with the times when they were "sent"

    def enqueue(self, request: QueuedRequest) -> None:
        if not self._unanswered:
            asyncio.get_running_loop().call_soon(self.answer)
        self._unanswered.append((request, self.pool.now_ns()))

    def answer(self) -> None:
        """Records the end of each unanswered request."""
        unanswered, self._unanswered = self._unanswered, []
        pool = self.pool
        for (intended_ns, dispatched_ns, client, sequence, version, _, _), sent_ns in unanswered:
            done_ns = pool.now_ns()
            pool.recorder.row(
                client, sequence, intended_ns, dispatched_ns, sent_ns, done_ns, COMPLETED, _OK, self.name, 0, version
            )
            pool.in_flight -= 1
            if pool.on_end is not None:
                pool.on_end(client, sequence, COMPLETED)


class DebugPool(Pool):
    """A pool that opens no connections."""

    host_kind: type[HostPool] = DebugHost

    def abort(self) -> None:
        for host in self.hosts.values():
            if isinstance(host, DebugHost):
                host.answer()
        super().abort()
