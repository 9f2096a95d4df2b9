"""Connection: a keep-alive connection, which sends one request at a time and parses its response.

Longer than other modules: the stages of a request are in one class, which is compiled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

from loadgen.engine.deadlines import NEVER, Deadlines
from loadgen.engine.http.redirects import RedirectError, next_hop
from loadgen.engine.http.response_head import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    KnownHead,
    KnownHeads,
    ResponseReader,
    may_redirect,
)
from loadgen.engine.http.wire_request import DOTTED, FirstRequest, QueuedRequest, WireRequest
from loadgen.engine.primitives import numbered, write_at_once
from loadgen.engine.recorder import Recorder
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.trace_batch import NO_TIME

# The stage of a connection's request. The order matters.
CLOSED: Final = -1
IDLE: Final = 0
SENT: Final = 1  # no complete head of a response yet
BODY: Final = 2  # the head is complete
COMPLETE: Final = 3
EXCESS: Final = 4  # complete, and more data followed
BROKEN: Final = 5  # invalid HTTP that the parser accepts

COMPLETED: Final = int(Outcome.COMPLETED)
_NO_DESCRIPTOR: Final = -1
_HEAD_END: Final = len(END_OF_HEAD)


class ConnectionPool(Protocol):
    """The part of a Pool that its connections use."""

    in_flight: int
    on_end: Callable[[int, int, int], None] | None
    recorder: Recorder
    now_ns: Callable[[], int]
    known_heads: KnownHeads
    deadlines: Deadlines

    def follow(self, name: str, request: QueuedRequest) -> None:
        """Sends the next request of a redirected arrival."""


class ConnectionHost(Protocol):
    """The part of a HostPool that its connections use."""

    name: str
    keep_alive: bool

    @property
    def pool(self) -> ConnectionPool: ...

    def connected(self, connection: Connection) -> None:
        """The connection was established."""

    def ready(self, connection: Connection) -> None:
        """The connection can take a request."""

    def closed(self, connection: Connection) -> None:
        """The connection can take no more requests."""

    def lost(self, connection: Connection) -> None:
        """The connection's socket is closed."""


class Connection:
    """Belongs to one host's pool; every request given to `load` ends as exactly one row.

    It does not inherit from asyncio.Protocol: a compiled class cannot have an interpreted base class. A response with a
    known head, and with its body in the same piece of data, is read without the parser.
    """

    __slots__ = (
        "_buffered",
        "_client",
        "_descriptor",
        "_dispatched_ns",
        "_first",
        "_host",
        "_intended_ns",
        "_keep",
        "_known_heads",
        "_last_head",
        "_last_known",
        "_now_ns",
        "_parser",
        "_partial",
        "_pool",
        "_recorder",
        "_redirect",
        "_sent_ns",
        "_sequence",
        "_size",
        "_stage",
        "_status",
        "_transport",
        "_until_eof",
        "_version",
        "_wire",
        "deadline_ns",
        "queued_ns",
    )

    def __init__(self, host: ConnectionHost) -> None:
        self._host = host
        self._pool = host.pool
        self._recorder = host.pool.recorder
        self._now_ns = host.pool.now_ns
        self._known_heads = host.pool.known_heads.heads
        self._last_head = b"\0"  # no response begins like this
        self._last_known: KnownHead | None = None
        self._descriptor = _NO_DESCRIPTOR
        self._buffered = False
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until the connection is made
        self._parser: httptools.HttpResponseParser | None = None
        self.deadline_ns = NEVER
        self.queued_ns = NEVER
        self._stage = CLOSED
        self._keep = False
        self._until_eof = False
        self._partial = b""
        self._wire: WireRequest = None  # type: ignore[assignment]  # until a request is loaded
        self._redirect = b""  # head of a redirect to follow, possibly with more data
        self._first: FirstRequest | None = None

    # --- Called by the pool

    @property
    def made(self) -> bool:
        """Whether the connection was ever established."""
        return self._transport is not None

    def load(
        self,
        intended_ns: int,
        client: int,
        sequence: int,
        version: int,
        wire: WireRequest,
        first: FirstRequest | None = None,
    ) -> bytes:
        """Assigns a request to an idle connection; returns its bytes for `write`, which must follow at once."""
        self._stage = SENT
        self._size = 0
        self._intended_ns = intended_ns
        self._client = client
        self._sequence = sequence
        self._version = version
        self._wire = wire
        self._first = first
        if wire.id_form is DOTTED:  # inlined from WireRequest.numbered: nearly all requests have this form
            return numbered(wire.head, client, sequence, wire.tail)
        return wire.numbered(client, sequence)

    def write(self, data: bytes, dispatched_ns: int) -> int:
        """Writes the request that was loaded; returns the time after that.

        The bytes are written to the descriptor: the transport of uvloop 0.23 takes three times as long, and that of an
        older one writes at the end of the loop's turn (MagicStack/uvloop#619): all requests of the turn would seem to
        be sent then.
        """
        self._dispatched_ns = dispatched_ns
        self._sent_ns = dispatched_ns  # until the write has returned: it may fail
        written = 0
        if self._descriptor >= 0:
            written = write_at_once(self._descriptor, data)  # the transport sends the rest
        if written != len(data):
            self._buffered = True
            self._transport.write(data[written:])
        self._sent_ns = sent_ns = self._now_ns()
        first = self._first
        self.deadline_ns = deadline_ns = sent_ns + self._wire.timeout_ns if first is None else first.deadline_ns
        if deadline_ns < self.queued_ns:
            self._pool.deadlines.queue(self)
        return sent_ns

    def time_out(self) -> None:
        self._fail(Outcome.TIMEOUT)

    def abort(self) -> None:
        """Closes the connection at once; a request in flight ends as ABORTED."""
        if self._stage > IDLE:
            self._fail(Outcome.ABORTED)
        else:
            self._close()

    # --- Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if transport.get_extra_info("ssl_object") is None:
            self._descriptor = transport.get_extra_info("socket").fileno()
        self._stage = IDLE
        self._host.connected(self)

    def data_received(self, data: bytes) -> None:
        before = self._stage
        if before <= IDLE:
            self._close()  # unsolicited data would be taken for the next response
            return
        if self._parser is None:
            if data.startswith(self._last_head):  # nearly always the same head again
                end, known = len(self._last_head), self._last_known
            else:
                end = data.find(END_OF_HEAD) + _HEAD_END
                head = data[:end]
                known = self._known_heads.get(head)
                if known is not None:
                    self._last_head, self._last_known = head, known
            if known is not None:
                self._status, self._keep, length = known
                if len(data) - end == (0 if self._wire.bodiless else length):
                    self._size = len(data) - end
                    self._stage = COMPLETE
                    self._end(COMPLETED, self._now_ns(), self._status)  # not a redirect to be followed
                    return
            self._parser = httptools.HttpResponseParser(self)
        parser = self._parser
        try:
            parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._stage < COMPLETE or self._stage == BROKEN:
                self._fail(Outcome.MALFORMED)
                return
            self._stage = EXCESS
        if self._stage == BROKEN:
            self._fail(Outcome.MALFORMED)
            return
        if before == SENT and self._stage > SENT:
            # Also checked for a head in one piece, which is complete before its length is known.
            received = len(self._partial) + len(data)
            if received > MAX_HEAD_BYTES and (self._partial + data).find(END_OF_HEAD) > MAX_HEAD_BYTES:
                self._fail(Outcome.MALFORMED)
                return
            if self._wire.redirects is not None and may_redirect(self._status):
                self._redirect = self._partial + data
            elif not self._partial:
                self._pool.known_heads.learn(data)
        if self._stage >= COMPLETE:
            if self._wire.bodiless:
                self._keep = self._keep or ResponseReader(self._partial + data).keeps_alive_without_body()
            self._partial = b""
            # After a response to HEAD, it would wait for the announced body (MagicStack/httptools#47, seen with 0.9).
            self._parser = None
            self._complete()
        elif self._stage == SENT:
            self._partial += data
            if len(self._partial) > MAX_HEAD_BYTES:
                self._fail(Outcome.MALFORMED)
        elif before == SENT:
            if not self._keep:
                self._until_eof = ResponseReader(self._partial + data).ends_with_connection()
            self._partial = b""

    def pause_writing(self) -> None:
        """Does nothing: the transport buffers at most the rest of one request."""

    def resume_writing(self) -> None:
        return

    def eof_received(self) -> None:
        """The transport closes itself after this."""
        if self._stage == BODY and self._until_eof:
            self._keep = False
            self._complete()
        elif self._stage > IDLE:
            self._fail(Outcome.CLOSED)
        else:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stage > IDLE:
            self._fail(Outcome.RESET if exc is not None else Outcome.CLOSED)
        else:
            self._close()
        self._host.lost(self)

    # --- Called by the parser

    def on_message_begin(self) -> None:
        if self._stage == COMPLETE:
            self._stage = EXCESS

    def on_headers_complete(self) -> None:
        if self._stage >= COMPLETE:
            return
        assert self._parser is not None
        self._status = status = self._parser.get_status_code()
        if status < 100:
            self._stage = BROKEN
        elif status >= 200 or status == 101:
            self._keep = self._parser.should_keep_alive()
            self._stage = COMPLETE if self._wire.bodiless else BODY

    def on_body(self, body: bytes) -> None:
        if self._stage == BODY:
            self._size += len(body)
        elif self._stage == SENT:
            self._stage = BROKEN  # an interim response has no body
        elif self._stage == COMPLETE:
            self._stage = EXCESS

    def on_message_complete(self) -> None:
        if self._stage == BODY:
            self._stage = COMPLETE

    # --- The end of a request

    def _complete(self) -> None:
        if not (self._redirect and self._follow()):
            self._end(COMPLETED, self._now_ns(), self._status)

    def _fail(self, outcome: Outcome) -> None:
        self._end(outcome, NO_TIME, 0)

    def _end(self, outcome: int, done_ns: int, status: int) -> None:
        pool, first = self._pool, self._first
        client, sequence = self._client, self._sequence  # the connection may soon serve another request
        self._recorder.row(
            client,
            sequence,
            self._intended_ns,
            self._dispatched_ns,
            self._sent_ns if first is None else first.sent_ns,
            done_ns,
            outcome,
            status,
            self._host.name if first is None else first.host,
            self._size,
            self._version,
        )
        pool.in_flight -= 1
        if outcome == COMPLETED:
            self._release()
        else:
            self._close()
        if pool.on_end is not None:
            pool.on_end(client, sequence, outcome)

    def _follow(self) -> bool:
        """Follows a redirect, or ends the arrival if it is invalid; returns False if the response is not a redirect."""
        head, self._redirect = self._redirect, b""
        try:
            hop = next_hop(self._wire, head)
        except RedirectError:
            self._fail(Outcome.REDIRECT)
            return True
        if hop is None:
            return False
        first = self._first or FirstRequest(self._sent_ns, self._host.name, self.deadline_ns)
        request = QueuedRequest(
            self._intended_ns, self._dispatched_ns, self._client, self._sequence, self._version, hop.wire, first
        )
        self._release()
        self._pool.follow(hop.host, request)
        return True

    def _release(self) -> None:
        """Returns the connection to its host, or closes it."""
        self.deadline_ns = NEVER
        reusable = self._keep and self._stage == COMPLETE and self._host.keep_alive
        self._stage = IDLE
        if reusable and not (self._buffered and self._is_unsent()):
            self._host.ready(self)
        else:
            self._close()

    def _is_unsent(self) -> bool:
        """Returns whether part of the request is unsent: a server may answer before it has read all of it."""
        self._buffered = self._transport.get_write_buffer_size() > 0
        return self._buffered

    def _close(self) -> None:
        if self._stage == CLOSED:
            return
        self._stage = CLOSED
        self.deadline_ns = NEVER
        self._descriptor = _NO_DESCRIPTOR  # another file may soon have its number
        self._parser = None  # it refers to this object's methods: a cycle, and none is collected during a load
        self._host.closed(self)
        self._transport.abort()
