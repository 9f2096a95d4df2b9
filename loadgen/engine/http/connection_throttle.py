"""ConnectionThrottle: limits how many connections are opened per turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

from loadgen.engine.recorder import Recorder

_ALWAYS_NEEDED_PER_TURN: Final = 8
# If one in so many connections was answered within a turn of the loop, the generator is slower than the target.
_ONE_IN: Final = 4
# With fewer connections, a slow shard opens more all the same: short turns make each request cost more.
_FEW: Final = 64
_PATIENCE_NS: Final = 10_000_000  # one connection is opened this often in any case, as the rule above may be wrong


class OpeningHost(Protocol):
    """A host that may lack connections."""

    def open(self, limit: int) -> bool:
        """Opens at most `limit` of the connections that the host lacks; returns whether it lacks more."""


class ConnectionThrottle:
    """Lets the hosts that lack connections open them in turn: one host opens one in each turn of the event loop.

    Opening a connection costs as much as several requests. When many requests are queued because this process was
    stopped for a moment, or is slow, responses have arrived meanwhile: once the loop reads them, open connections are
    free for the queued requests, and opening more would only delay that. With few connections, this does not hold.

    Args:
        connections: those that are open.
        always_needed: whether each queued request needs a connection of its own, however slow this process is: where a
            connection serves one request, and where at most one request per client is queued. Several connections are
            opened per turn then.
    """

    def __init__(
        self, recorder: Recorder, connections: Collection[object], now_ns: Callable[[], int], *, always_needed: bool
    ) -> None:
        self._recorder = recorder
        self._now_ns = now_ns
        self._connections = connections
        self._always_needed = always_needed
        self._opened_at_ns = 0
        self._lacking: dict[OpeningHost, None] = {}  # in the order of their requests
        self._handle: asyncio.Handle | None = None
        self._completed = 0  # requests in the whole run, when the last turn began

    def request(self, host: OpeningHost) -> None:
        """Lets the host open the connections that it lacks, in its turn."""
        self._lacking[host] = None
        if self._handle is None:
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        self._completed = self._recorder.completed
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._handle = None
        now_ns = self._now_ns()
        if self._always_needed or not self._is_generator_slow() or now_ns - self._opened_at_ns > _PATIENCE_NS:
            self._opened_at_ns = now_ns
            host = next(iter(self._lacking))
            del self._lacking[host]
            if host.open(_ALWAYS_NEEDED_PER_TURN if self._always_needed else 1):
                self._lacking[host] = None
        if self._lacking:
            self._wait_for_turn()

    def _is_generator_slow(self) -> bool:
        connections = len(self._connections)
        return connections >= _FEW and self._recorder.completed - self._completed >= connections // _ONE_IN
