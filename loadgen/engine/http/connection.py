"""Connection: a keep-alive connection, which sends one request at a time and parses its response.

Longer than other modules: the stages of a request are in one class, which is compiled.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from typing import Final, Protocol, cast

from loadgen.engine.deadlines import NEVER, Deadlines
from loadgen.engine.http.redirects import Hop, RedirectError, next_hop
from loadgen.engine.http.response.chunked_body import ChunkedBody
from loadgen.engine.http.response.head import (
    CHUNKED,
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    UNTIL_EOF,
    MalformedError,
    ResponseHead,
    check_begin,
    may_redirect,
    read_head,
)
from loadgen.engine.http.response.known_heads import KnownHeads
from loadgen.engine.http.tls_transport import TlsTransport
from loadgen.engine.http.wire_request import DASHED, FirstRequest, QueuedRequest, WireRequest
from loadgen.engine.primitives import BROKEN, has_input, numbered, write_at_once
from loadgen.engine.recorder import Recorder
from loadgen.protocol.outcomes import MalformedReason, Outcome
from loadgen.protocol.trace_batch import NO_TIME, endpoint_of

# The stage of a connection's request. The order matters.
CLOSED: Final = -1
IDLE: Final = 0
SENT: Final = 1  # no complete head of a response yet
BODY: Final = 2  # the head is complete
COMPLETE: Final = 3
EXCESS: Final = 4  # complete, and more data followed

COMPLETED: Final = int(Outcome.COMPLETED)
_NO_DESCRIPTOR: Final = -1
_USUAL_END: Final = b"\r\n\r\n"  # of a head
_READ_BYTES: Final = 1 << 16


class ConnectionPool(Protocol):
    """The part of a Pool that its connections use."""

    in_flight: int
    on_end: Callable[[int, int, int], None] | None
    recorder: Recorder
    now_ns: Callable[[], int]
    known_heads: KnownHeads
    deadlines: Deadlines
    send_until_ns: int

    def follow(self, name: str, request: QueuedRequest) -> None:
        """Sends the next request of a redirected arrival."""


class ConnectionHost(Protocol):
    """The part of a HostPool that its connections use."""

    name: str
    keep_alive: bool
    is_named: bool

    @property
    def pool(self) -> ConnectionPool: ...

    def connected(self, connection: Connection) -> None:
        """The connection was established."""

    def ready(self, connection: Connection) -> None:
        """The connection can take a request."""

    def resend(self, request: QueuedRequest) -> None:
        """Sends a request again on a new connection."""

    def closed(self, connection: Connection) -> None:
        """The connection can take no more requests."""

    def lost(self, connection: Connection) -> None:
        """The connection's socket is closed."""


class Connection:
    """Belongs to one host's pool; every request given to `load` ends as exactly one row.

    It does not inherit from asyncio.Protocol: a compiled class cannot have an interpreted base class. A known head is
    looked up; all other heads are read by `read_head`.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_client",
        "_descriptor",
        "_dispatched_ns",
        "_first",
        "_host",
        "_intended_ns",
        "_is_retired",
        "_is_used",
        "_keep",
        "_known_heads",
        "_last_head",
        "_last_known",
        "_left",
        "_now_ns",
        "_partial",
        "_pool",
        "_reason",
        "_recorder",
        "_redirect",
        "_sequence",
        "_size",
        "_socket",
        "_stage",
        "_status",
        "_transport",
        "_unwritten",
        "_version",
        "_wire",
        "address",
        "deadline_ns",
        "endpoint",
        "queued_ns",
        "sent_ns",
    )

    def __init__(self, host: ConnectionHost) -> None:
        self._host = host
        self._pool = host.pool
        self._recorder = host.pool.recorder
        self._now_ns = host.pool.now_ns
        self._known_heads = host.pool.known_heads.heads
        self._last_head = b"\0"  # no response begins like this
        self._last_known: ResponseHead | None = None
        self._socket = _NO_DESCRIPTOR
        self._descriptor = _NO_DESCRIPTOR  # of a socket that requests are written to directly
        self._buffered = False
        self._unwritten = False  # whether the socket refused the request, so that not a byte of it can be sent
        self._is_used = False  # whether it has served a request
        self._is_retired = False  # whether it is to serve no other
        self.address = ""  # behind a host's name
        self.endpoint = host.name  # with the address, if there is one
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until the connection is made
        self.deadline_ns = NEVER
        self.queued_ns = NEVER
        self.sent_ns = 0  # when the last request was sent, or the connection was made
        self._stage = CLOSED
        self._keep = False
        self._left = 0  # of the body: bytes that have not come yet, CHUNKED or UNTIL_EOF
        self._chunks: ChunkedBody | None = None
        self._reason = 0  # a MalformedReason
        self._partial = b""  # heads of which the last one is incomplete
        self._wire: WireRequest = None  # type: ignore[assignment]  # until a request is loaded
        self._redirect = b""  # head of a redirect to follow
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
        self._reason = 0
        self._intended_ns = intended_ns
        self._client = client
        self._sequence = sequence
        self._version = version
        self._wire = wire
        self._first = first
        if wire.id_form is DASHED:  # inlined from WireRequest.numbered: nearly all requests have this form
            return numbered(wire.head, client, sequence, wire.tail)
        return wire.numbered(client, sequence)

    def write(self, data: bytes, dispatched_ns: int) -> int:
        """Writes the request that was loaded; returns the time after that.

        The bytes are written to the descriptor: the transport of uvloop 0.23 takes three times as long, and that of an
        older one writes at the end of the loop's turn (MagicStack/uvloop#619): all requests of the turn would seem to
        be sent then.
        """
        self._dispatched_ns = dispatched_ns
        self.sent_ns = dispatched_ns  # until the write has returned: it may fail
        written = 0
        if self._descriptor >= 0:
            written = write_at_once(self._descriptor, data)  # the transport sends the rest
        self._unwritten = False  # with TLS it is not known
        if written != len(data):
            if written == BROKEN:
                self._unwritten = True
                written = 0
            self._buffered = True
            self._transport.write(data[written:])  # it reports the broken connection, too
        self.sent_ns = sent_ns = self._now_ns()
        first = self._first
        self.deadline_ns = deadline_ns = sent_ns + self._wire.timeout_ns if first is None else first.deadline_ns
        if deadline_ns < self.queued_ns:
            self._pool.deadlines.queue(self)
        return sent_ns

    def is_usable(self) -> bool:
        """Returns whether an idle connection has nothing to read: neither its end, nor unsolicited data.

        To be asked if its last request was sent a while ago: the event loop may not have read since then.
        """
        return not has_input(self._socket)

    def time_out(self) -> None:
        self._fail(Outcome.TIMEOUT)

    def retire(self, host: ConnectionHost, addresses: Collection[str]) -> None:
        """Serves no other request if it is one of the host's, and leads to none of these addresses."""
        if self._host is host and self.address not in addresses:
            self._is_retired = True
            if self._stage == IDLE:
                self._close()

    def abort(self) -> None:
        """Closes the connection at once; a request in flight ends as ABORTED."""
        if self._stage > IDLE:
            self._fail(Outcome.ABORTED)
        else:
            self._close()

    # --- Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._socket = transport.get_extra_info("socket").fileno()
        self.sent_ns = self._now_ns()
        if self._host.is_named:
            self.address = transport.get_extra_info("peername")[0]
            self.endpoint = endpoint_of(self._host.name, self.address)
        if transport.get_extra_info("ssl_object") is None:
            self._descriptor = self._socket
        self._stage = IDLE
        self._host.connected(self)

    def data_received(self, data: bytes) -> None:
        if self._stage <= IDLE:
            self._close()  # unsolicited data would be taken for the next response
            return
        end = 0
        if self._stage == SENT:
            known = None
            if not self._partial:
                if data.startswith(self._last_head):  # nearly always the same head again
                    end, known = len(self._last_head), self._last_known
                else:
                    end = data.find(_USUAL_END) + len(_USUAL_END)
                    head = data[:end]
                    known = self._known_heads.get(head)
                    if known is not None:
                        self._last_head, self._last_known = head, known
            if known is not None:
                self._status, self._keep, self._left = known
                if self._wire.bodiless:
                    self._left = 0
                if len(data) - end == self._left:
                    self._size = self._left
                    self._stage = COMPLETE
                    self._end(COMPLETED, self._now_ns(), self._status)  # not a redirect to be followed
                    return
                self._stage = BODY
                if self._left == CHUNKED:
                    self._chunks = ChunkedBody()
            else:
                end = self._read_heads(data)
        if self._stage == BODY:
            self._read_body(data, end)

    def _read_heads(self, data: bytes) -> int:
        """Reads heads up to the final one; returns where the body begins in the data.

        The stage is then BODY, SENT if the final head is not complete, or that of a failed request.
        """
        heads = self._partial + data
        begin = 0
        try:
            while True:
                found = END_OF_HEAD.search(heads, begin)
                if (len(heads) if found is None else found.end()) > MAX_HEAD_BYTES:
                    raise MalformedError(MalformedReason.HEAD_TOO_LONG)
                if found is None:
                    check_begin(heads[begin:])
                    self._partial = heads
                    return 0
                end = found.end()
                head = read_head(heads[begin:end])
                if not head.is_interim:
                    break
                begin = end
        except MalformedError as error:
            self._refuse(error)
            return 0
        self._status, self._keep, self._left = head
        if self._wire.redirects is not None and may_redirect(head.status):
            self._redirect = heads[begin:end]
        elif not begin:
            self._pool.known_heads.learn(heads[:end], head)
        if self._wire.bodiless:
            self._left = 0
        elif self._left == CHUNKED:
            self._chunks = ChunkedBody()
        end -= len(self._partial)
        self._partial = b""
        self._stage = BODY
        return end

    def _read_body(self, data: bytes, begin: int) -> None:
        received = len(data) - begin
        if self._chunks is not None:
            try:
                end = self._chunks.feed(data, begin)
            except MalformedError as error:
                self._size = self._chunks.size
                self._refuse(error)
                return
            self._size = self._chunks.size
            if end < 0:
                return
            received -= end - begin
        elif self._left < 0:
            self._size += received  # until the connection ends
            return
        elif received < self._left:
            self._left -= received
            self._size += received
            return
        else:
            self._size += self._left
            received -= self._left
        self._stage = EXCESS if received else COMPLETE
        self._complete()

    def _refuse(self, error: MalformedError) -> None:
        if self._redirect and self._follow():
            return  # `requests` follows a redirect whose body is broken
        self._reason = error.reason
        self._fail(Outcome.MALFORMED)

    def pause_writing(self) -> None:
        """Does nothing: the transport buffers at most the rest of one request."""

    def resume_writing(self) -> None:
        return

    def eof_received(self) -> None:
        """The transport closes itself after this."""
        self._lost(Outcome.CLOSED)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stage > IDLE and exc is not None:
            self._read_rest()
        self._lost(Outcome.RESET if exc is not None else Outcome.CLOSED)
        self._host.lost(self)

    def _read_rest(self) -> None:
        """Reads what came before a write failed: a server may answer, and close, before it has read all of a request.

        The event loop does not read after a failed write, and closes the socket after `connection_lost`.
        """
        self._is_retired = True  # the rest may be a complete response without `Connection: close`
        while self._stage > IDLE and (data := self._read_at_once()):
            self.data_received(data)

    def _read_at_once(self) -> bytes:
        if self._descriptor < 0:
            return cast(TlsTransport, self._transport).read_rest()
        try:
            return os.read(self._descriptor, _READ_BYTES)
        except OSError:
            return b""

    def _lost(self, outcome: Outcome) -> None:
        """Ends the request, if there is one, after the connection has ended."""
        if (
            outcome == Outcome.CLOSED
            and self._stage == BODY
            and (self._chunks.ends_with_connection() if self._chunks is not None else self._left == UNTIL_EOF)
        ):
            self._keep = False
            self._complete()
        elif self._stage == SENT and not self._partial and self._resend():
            return
        elif self._stage == BODY and self._redirect and self._follow():
            return  # as in `_refuse`
        elif self._stage > IDLE:
            self._fail(outcome)
        else:
            self._close()

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
            self.sent_ns if first is None else first.sent_ns,
            done_ns,
            outcome,
            status,
            self.endpoint if first is None else first.endpoint,
            self._size,
            self._version,
            self._reason,
            0 if first is None else first.resent,
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
            hop = self._hop(head)
        except RedirectError:
            self._fail(Outcome.REDIRECT)
            return True
        if hop is None:
            return False
        first = self._first_request()
        request = self._queued(hop.wire, first._replace(history=(*first.history, head)))
        self._release()
        self._pool.follow(hop.host, request)
        return True

    def _hop(self, head: bytes) -> Hop | None:
        """Returns the request that a response with this head redirects to, if any. Raises RedirectError."""
        return next_hop(self._wire, head)

    def _resend(self) -> bool:
        """Sends the request again, if the server had probably closed the connection before; returns False if not.

        That is so if the connection had served others, and not a byte of a response came. It is done once for an
        arrival, and only if nothing was written, or if the method is idempotent (RFC 9110, 9.2.2), as Go's net/http
        does (Transport).
        """
        first = self._first_request()
        if not self._is_used or first.resent or self._now_ns() >= self._pool.send_until_ns:
            return False
        if not (self._unwritten or self._wire.is_idempotent):
            return False
        request = self._queued(self._wire.again(), first._replace(resent=1))
        self._close()
        self._host.resend(request)
        return True

    def _first_request(self) -> FirstRequest:
        """Returns the present request, if it is the first of its arrival, or the one before it that was."""
        return self._first or FirstRequest(self.sent_ns, self.endpoint, self.deadline_ns)

    def _queued(self, wire: WireRequest, first: FirstRequest) -> QueuedRequest:
        """Returns the next request of the arrival."""
        return QueuedRequest(
            self._intended_ns, self._dispatched_ns, self._client, self._sequence, self._version, wire, first
        )

    def _release(self) -> None:
        """Returns the connection to its host, or closes it."""
        self.deadline_ns = NEVER
        self._is_used = True
        self._chunks = None
        reusable = self._keep and self._stage == COMPLETE and self._host.keep_alive and not self._is_retired
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
        self._socket = self._descriptor = _NO_DESCRIPTOR  # another file may soon have its number
        self._host.closed(self)
        self._transport.abort()
