"""CapturingConnection: keeps requests and responses as sent, for workloads with `capture` and apps with `on_response`.

It is a class of its own, so that other workloads do not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from loadgen.engine.http.connection import COMPLETED, Connection, ConnectionHost, ConnectionPool
from loadgen.engine.http.response.head import final_head
from loadgen.engine.http.wire_request import FirstRequest, WireRequest
from loadgen.engine.recorder import Recorder
from loadgen.protocol.enums import CaptureMode
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.trace_batch import CAPTURE_OVERHEAD_BYTES, MAX_CAPTURES_BYTES, Capture

# Called with a complete response: client, status, bytes, and the heads of the responses that redirected to it.
OnResponse = Callable[[int, int, bytes, tuple[bytes, ...]], None]


class Captures:
    """The captures since the last call of `take`, bounded by MAX_CAPTURES_BYTES; `left_out` counts those beyond.

    Args:
        mode: one of messages.CAPTURES, but not none.
        limit_bytes: of a request, and of a response.
    """

    def __init__(self, mode: str, limit_bytes: int, recorder: Recorder) -> None:
        self.limit_bytes = limit_bytes
        self.left_out = 0
        self._only_errors = mode == CaptureMode.ERRORS
        self._only_heads = mode == CaptureMode.HEADERS
        self._recorder = recorder
        self._kept: list[Capture] = []
        self._bytes = 0

    def add(self, outcome: int, status: int, request: bytes, response: bytes) -> None:
        """Keeps a request and its response, if the mode includes them, with the row that is recorded next."""
        if self._only_errors and outcome == Outcome.COMPLETED and status < 400:
            return
        if self._only_heads:
            request, response = request[: final_head(request)[1]], response[: final_head(response)[1]]
        request = request[: self.limit_bytes]
        size = CAPTURE_OVERHEAD_BYTES + len(request) + len(response)
        if self._bytes + size > MAX_CAPTURES_BYTES:
            self.left_out += 1
            return
        self._bytes += size
        self._kept.append(Capture(self._recorder.rows, request, response))

    def take(self) -> list[Capture]:
        """Returns the captures since the last call."""
        taken, self._kept, self._bytes = self._kept, [], 0
        return taken


class CapturingPool(ConnectionPool, Protocol):
    """The part of a Pool that its capturing connections use."""

    captures: Captures | None
    kept_bytes: int
    on_response: OnResponse | None


class CapturingHost(ConnectionHost, Protocol):
    """The part of a HostPool that its capturing connections use."""

    @property
    def pool(self) -> CapturingPool: ...


class CapturingConnection(Connection):
    """Keeps the last request and its response, up to `kept_bytes` of the pool."""

    __slots__ = ("_capturing_pool", "_request", "_response")

    def __init__(self, host: CapturingHost) -> None:
        super().__init__(host)
        self._capturing_pool = host.pool
        self._request = b""
        self._response = bytearray()

    def load(
        self,
        intended_ns: int,
        client: int,
        sequence: int,
        version: int,
        wire: WireRequest,
        first: FirstRequest | None = None,
    ) -> bytes:
        self._response = bytearray()
        self._request = super().load(intended_ns, client, sequence, version, wire, first)
        return self._request

    def data_received(self, data: bytes) -> None:
        room = self._capturing_pool.kept_bytes - len(self._response)
        if room > 0:
            self._response += data[:room]
        super().data_received(data)

    def _end(self, outcome: int, done_ns: int, status: int) -> None:
        pool, request, response = self._capturing_pool, self._request, self._response
        self._request, self._response = b"", bytearray()  # idle connections keep nothing
        if pool.on_response is not None and outcome == COMPLETED:
            history = () if self._first is None else self._first.history
            # This may end the load, and cut the rest of the plan.
            pool.on_response(self._client, status, bytes(response), history)
        if pool.captures is not None:
            pool.captures.add(outcome, status, request, bytes(response[: pool.captures.limit_bytes]))
        super()._end(outcome, done_ns, status)
