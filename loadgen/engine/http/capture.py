"""Keeps requests and responses as they went over the wire, for workloads that ask for it (`capture`), and for client
apps that are told of their responses (`on_response`).

A connection of its own kind does it, so that it costs nothing where nobody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadgen.engine.http.connection import COMPLETED, Connection, First
from loadgen.engine.http.response_head import END_OF_HEAD
from loadgen.engine.http.wire import Wire
from loadgen.engine.recorder import Recorder
from loadgen.protocol.batch import CAPTURE_OVERHEAD_BYTES, MAX_CAPTURES_BYTES, Capture
from loadgen.protocol.messages import CAPTURE_ERRORS, CAPTURE_HEADERS
from loadgen.protocol.outcomes import Outcome

if TYPE_CHECKING:
    from loadgen.engine.http.pool import HostPool


class Captures:
    """What was kept since the last call of `take`; bounded, and what there was no room for is counted in `left_out`.

    Args:
        mode: one of messages.CAPTURES, but not none.
        limit_bytes: of a request, and of a response.
    """

    def __init__(self, mode: str, limit_bytes: int, recorder: Recorder) -> None:
        self.limit_bytes = limit_bytes
        self.left_out = 0
        self._only_errors = mode == CAPTURE_ERRORS
        self._only_heads = mode == CAPTURE_HEADERS
        self._recorder = recorder
        self._kept: list[Capture] = []
        self._bytes = 0

    def add(self, outcome: int, status: int, request: bytes, response: bytes) -> None:
        """To be called for the row that is recorded next."""
        if self._only_errors and outcome == Outcome.COMPLETED and status < 400:
            return
        if self._only_heads:
            request, response = request[: _end_of_head(request)], response[: _end_of_head(response)]
        request = request[: self.limit_bytes]
        size = CAPTURE_OVERHEAD_BYTES + len(request) + len(response)
        if self._bytes + size > MAX_CAPTURES_BYTES:
            self.left_out += 1
            return
        self._bytes += size
        self._kept.append(Capture(self._recorder.rows, request, response))

    def take(self) -> list[Capture]:
        taken, self._kept, self._bytes = self._kept, [], 0
        return taken


def _end_of_head(data: bytes) -> int:
    """Where the head ends, with any interim ones (1xx) before it; where the data ends if it is incomplete."""
    end = 0
    while True:
        begin, end = end, data.find(END_OF_HEAD, end) + len(END_OF_HEAD)
        if end < len(END_OF_HEAD):
            return len(data)
        if not (data.startswith(b"HTTP/", begin) and data[begin + 9 : begin + 10] == b"1"):
            return end


class CapturingConnection(Connection):
    """Keeps what it writes and what it is given, up to `kept_bytes` of the pool. Of an arrival that followed redirects,
    the last request."""

    __slots__ = ("_request", "_response")

    def __init__(self, host: HostPool) -> None:
        super().__init__(host)
        self._request = b""
        self._response = bytearray()

    def load(
        self, intended_ns: int, client: int, sequence: int, version: int, wire: Wire, first: First | None = None
    ) -> bytes:
        self._response = bytearray()
        self._request = super().load(intended_ns, client, sequence, version, wire, first)
        return self._request

    def data_received(self, data: bytes) -> None:
        room = self._pool.kept_bytes - len(self._response)
        if room > 0:
            self._response += data[:room]
        super().data_received(data)

    def _end(self, outcome: int, done_ns: int, status: int) -> None:
        pool, request, response = self._pool, self._request, self._response
        self._request, self._response = b"", bytearray()  # idle connections keep nothing
        if pool.on_response is not None and outcome == COMPLETED:
            pool.on_response(self._client, status, bytes(response))  # it may end the load, and cut what is left
        if pool.captures is not None:
            pool.captures.add(outcome, status, request, bytes(response[: pool.captures.limit_bytes]))
        super()._end(outcome, done_ns, status)
