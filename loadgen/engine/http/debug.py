"""What the debug router has in place of connections: each request is answered at once, by nobody, with status 200.

The schedule is kept, client apps make their requests, and each has its row, without a network or a target: a plan and
its apps can be tried, and what the generator itself costs is seen.
"""

from __future__ import annotations

import asyncio
from typing import Final

from loadgen.engine.http.dialer import Dialer
from loadgen.engine.http.pool import HostPool, Pool, Waiter
from loadgen.protocol.outcomes import Outcome

COMPLETED: Final = int(Outcome.COMPLETED)
_OK: Final = 200


class DebugHost(HostPool):
    """Answers in the loop's next turn: in the closed model, an answer is followed by the client's next request."""

    __slots__ = ("_unanswered",)

    def __init__(self, pool: Pool, name: str, dialer: Dialer) -> None:
        super().__init__(pool, name, dialer)
        self._unanswered: list[tuple[int, int, int, int, int, int]] = []

    def wait(self, waiter: Waiter) -> None:
        if not self._unanswered:
            asyncio.get_running_loop().call_soon(self.answer)
        intended_ns, dispatched_ns, client, sequence, version, _, _ = waiter
        sent_ns = self.pool.now_ns()
        self._unanswered.append((client, sequence, intended_ns, dispatched_ns, sent_ns, version))

    def answer(self) -> None:
        """Records the end of each request that waits for it."""
        unanswered, self._unanswered = self._unanswered, []
        pool = self.pool
        for client, sequence, intended_ns, dispatched_ns, sent_ns, version in unanswered:
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
