"""When connections are opened: a few in each turn of the event loop, and none that would only be in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final, Protocol

from loadgen.engine.recorder import Recorder

_SURELY_NEEDED_PER_TURN: Final = 8
# When one in so many connections was answered within a turn of the loop, it is we who are slow.
_ONE_IN: Final = 4
# A shard that is slow needs so many all the same: with fewer, its turns are short, and each request costs more.
_FEW: Final = 64
_PATIENCE_S: Final = 0.01  # one is opened so often all the same: the rule above may be wrong


class Opener(Protocol):
    """A host that may lack connections."""

    def open(self, most: int) -> bool:
        """Opens up to `most` of the connections that it lacks; whether it lacks more."""


class Openings:
    """Hosts that lack connections, and when each has its turn: in a turn of the loop, one host opens one.

    Opening a connection costs as much as several requests. When many requests wait because this process stood still for
    a moment, or is slow, the responses are there already: the connections that are open will soon have time for those
    who wait, if the loop gets to read them, and further ones would only keep it from that. Not so while there are few.

    Args:
        connections: those that are open.
        surely_needed: whether those who wait need a connection each, whoever is slow: then several are opened in a
            turn. So it is where a connection serves one request, and where as many wait as there are clients.
    """

    __slots__ = ("_answered", "_connections", "_handle", "_lacking", "_opened_at_s", "_recorder", "_surely_needed")

    def __init__(self, recorder: Recorder, connections: Collection[object], *, surely_needed: bool) -> None:
        self._recorder = recorder
        self._connections = connections
        self._surely_needed = surely_needed
        self._opened_at_s = 0.0
        self._lacking: dict[Opener, None] = {}  # in the order in which they asked
        self._handle: asyncio.Handle | None = None
        self._answered = 0  # in the whole run, when the last turn began

    def ask(self, host: Opener) -> None:
        """Lets the host open what it lacks, when it is its turn."""
        self._lacking[host] = None
        if self._handle is None:
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        self._answered = self._recorder.completed
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._handle = None
        now_s = asyncio.get_running_loop().time()
        if self._surely_needed or not self._are_we_slow() or now_s - self._opened_at_s > _PATIENCE_S:
            self._opened_at_s = now_s
            host = next(iter(self._lacking))
            del self._lacking[host]
            if host.open(_SURELY_NEEDED_PER_TURN if self._surely_needed else 1):
                self._lacking[host] = None
        if self._lacking:
            self._wait_for_turn()

    def _are_we_slow(self) -> bool:
        connections = len(self._connections)
        return connections >= _FEW and self._recorder.completed - self._answered >= connections // _ONE_IN
