"""One keep-alive connection: writes a request, parses its response, one at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

import httptools

from loadgen.batch import NO_TIME
from loadgen.engine import framing
from loadgen.engine.deadlines import NEVER
from loadgen.engine.request import Wire
from loadgen.messages import Outcome

if TYPE_CHECKING:
    from loadgen.engine.pool import HostPool

# Where a connection is with its request. The order matters.
CLOSED: Final = -1
IDLE: Final = 0
SENT: Final = 1  # no complete head of a response yet
BODY: Final = 2  # the head is complete
COMPLETE: Final = 3
EXCESS: Final = 4  # complete, and more came behind it


class Connection(asyncio.Protocol):
    """Belongs to one HostPool; every request given to `send` ends as exactly one row."""

    __slots__ = (
        "_client",
        "_dispatched_ns",
        "_host",
        "_intended_ns",
        "_keep",
        "_parser",
        "_partial",
        "_pool",
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
        "serial",
    )

    _transport: asyncio.Transport
    _parser: httptools.HttpResponseParser | None
    _wire: Wire
    _keep: bool

    def __init__(self, host: HostPool, serial: int) -> None:
        self._host = host
        self._pool = host.pool
        self.serial = serial
        self.deadline_ns = NEVER
        self.queued_ns = NEVER
        self._stage = CLOSED
        self._until_eof = False
        self._partial = b""

    # --- Called by the pool

    @property
    def made(self) -> bool:
        """Whether the connection was ever established."""
        return hasattr(self, "_transport")

    def send(self, intended_ns: int, dispatched_ns: int, client: int, sequence: int, version: int, wire: Wire) -> int:
        """Writes a request; returns the time then. The connection must be idle."""
        self._stage = SENT
        self._size = 0
        self._intended_ns = intended_ns
        self._dispatched_ns = dispatched_ns
        self._client = client
        self._sequence = sequence
        self._version = version
        self._wire = wire
        self._sent_ns = dispatched_ns  # until it is known better: the write itself may fail
        self._transport.write(b"%b%d.%d%b" % (wire.head, client, sequence, wire.tail))
        self._sent_ns = sent_ns = self._pool.now_ns()
        self.deadline_ns = deadline_ns = sent_ns + wire.timeout_ns
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
        self._parser = httptools.HttpResponseParser(self)
        self._stage = IDLE
        self._host.connected(self)

    def data_received(self, data: bytes) -> None:
        before = self._stage
        if before <= IDLE:
            self._close()  # nobody asked for this; what would come next could not be told apart from it
            return
        parser = self._parser
        assert parser is not None
        try:
            parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._stage < COMPLETE:
                self._fail(Outcome.MALFORMED)
                return
            self._stage = EXCESS
        if self._stage >= COMPLETE:
            if self._wire.bodiless:
                # The parser waits for the body that the head announced; the next response needs a new one.
                self._parser = httptools.HttpResponseParser(self)
                self._keep = self._keep or framing.keeps_alive(self._partial + data)
            self._partial = b""
            self._complete()
        elif self._stage == SENT:
            self._partial += data
            if len(self._partial) > framing.MAX_HEAD_BYTES:
                self._fail(Outcome.MALFORMED)
        elif before == SENT:
            if not self._keep:
                self._until_eof = framing.ends_with_eof(self._partial + data)
            self._partial = b""

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
        if self._stage >= COMPLETE:
            self._stage = EXCESS

    def on_headers_complete(self) -> None:
        if self._stage >= COMPLETE:
            return
        assert self._parser is not None
        self._status = status = self._parser.get_status_code()
        if status >= 200 or status == 101:
            self._keep = self._parser.should_keep_alive()
            self._stage = COMPLETE if self._wire.bodiless else BODY

    def on_body(self, body: bytes) -> None:
        if self._stage == BODY:
            self._size += len(body)
        else:
            self._stage = EXCESS

    def on_message_complete(self) -> None:
        if self._stage == BODY:
            self._stage = COMPLETE

    # --- The end of a request

    def _complete(self) -> None:
        pool = self._pool
        pool.recorder.row(
            self._client,
            self._sequence,
            self._intended_ns,
            self._dispatched_ns,
            self._sent_ns,
            pool.now_ns(),
            Outcome.COMPLETED,
            self._status,
            self._host.name,
            self._size,
            self._version,
        )
        pool.in_flight -= 1
        self.deadline_ns = NEVER
        # A server may answer before it has read all of the request: then the rest of it still lies in the buffer.
        reusable = self._keep and self._stage == COMPLETE and not self._transport.get_write_buffer_size()
        self._stage = IDLE
        if reusable:
            self._host.ready(self)
        else:
            self._close()

    def _fail(self, outcome: Outcome) -> None:
        pool = self._pool
        pool.recorder.row(
            self._client,
            self._sequence,
            self._intended_ns,
            self._dispatched_ns,
            self._sent_ns,
            NO_TIME,
            outcome,
            0,
            self._host.name,
            self._size,
            self._version,
        )
        pool.in_flight -= 1
        self._close()

    def _close(self) -> None:
        if self._stage == CLOSED:
            return
        self._stage = CLOSED
        self.deadline_ns = NEVER
        self._parser = None  # the parser holds this object's methods: a cycle, and nobody collects those while it runs
        self._host.closed(self)
        self._transport.abort()
