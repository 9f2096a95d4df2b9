"""TlsTransport: the client's end of TLS, over a TCP transport of the event loop.

The loop's own TLS costs as much CPU and has two faults. `get_write_buffer_size` of uvloop's transport is 0 while
encrypted data waits in the TCP transport, so that a connection would be reused although its request is only half sent
(seen with uvloop 0.23). And a server does not learn why it was refused, as the alert is not sent
(python/cpython#98078; uvloop has its code from there).

Nor does OpenSSL read from the descriptor itself: it needs two system calls per record, which cost more than the copies
here; and after a reset uvloop does not report that the descriptor has data (seen with uvloop 0.23).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

_RECORD_BYTES: Final = 16 * 1024  # the largest record: a read of this size leaves none of it in OpenSSL
_AT_ONCE_BYTES: Final = 64 * 1024  # decrypted or encrypted at a time, as a BIO never shrinks
_NO_DESCRIPTOR: Final = -1


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """The protocol of a TCP transport below; the transport of a protocol above, which it makes after the handshake.

    `connection_lost` gets an exception when TLS or TCP broke, and None after an end of data, with or without a
    `close_notify`. `abort` sends no `close_notify`, as `requests` sends none. Flow control of reading, `close` and all
    else that the engine's protocols do not use is not implemented.

    Args:
        server_name: the certificate must contain it if the context checks that.
        make_protocol: called when the handshake is complete.

    Raises:
        ValueError: the server name is not valid.
    """

    __slots__ = (
        "_buffered",
        "_closed",
        "_decrypt",
        "_descriptor",
        "_encrypt",
        "_error",
        "_incoming",
        "_make_protocol",
        "_outgoing",
        "_paused",
        "_protocol",
        "_shaken",
        "_ssl",
        "_tcp",
        "_unsent",
    )

    _tcp: asyncio.Transport

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        server_name: str | None,
        make_protocol: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._decrypt = self._ssl.read
        self._encrypt = self._ssl.write
        self._make_protocol = make_protocol
        self._protocol: asyncio.Protocol | None = None  # None during the handshake
        self._shaken: asyncio.Future[None] | None = loop.create_future()  # None once `opened` has returned
        self._unsent = bytearray()  # not yet encrypted
        self._paused = False
        self._buffered = False
        self._closed = False
        self._error: Exception | None = None
        self._descriptor = _NO_DESCRIPTOR

    async def opened(self) -> None:
        """Waits for the end of the handshake; closes the connection if it is cancelled meanwhile.

        Raises:
            ssl.SSLError: it failed, or the server closed the connection.
        """
        assert self._shaken is not None
        try:
            await self._shaken
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._shaken = None  # its exception refers to this frame: a cycle, and none is collected during a load

    # --- Called by the protocol above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends as much as the socket accepts at once, and the rest later."""
        if self._closed:
            return
        if not self._unsent and len(data) <= _AT_ONCE_BYTES:
            try:
                self._encrypt(data)
            except ssl.SSLError:
                pass  # `_flush` gets the same error, and handles it
            else:
                self._write_out()
                return
        self._unsent += data
        self._flush()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent) + self._tcp.get_write_buffer_size()

    def abort(self) -> None:
        """Closes at once; `connection_lost` is called in another turn of the loop."""
        self._closed = True
        self._tcp.abort()

    def read_rest(self) -> bytes:
        """Returns the next piece of data that came before the connection was lost, empty if there is no more.

        Only for the `connection_lost` of the protocol above: the loop reads no more, and the socket is still open.
        """
        while True:
            try:
                return self._decrypt(_RECORD_BYTES)  # empty for a close_notify
            except ssl.SSLWantReadError:
                try:
                    data = os.read(self._descriptor, _AT_ONCE_BYTES)
                except OSError:
                    return b""
            except ssl.SSLError as error:
                error.with_traceback(None)  # its frames refer to this object, see `_fail`
                return b""
            if not data:
                return b""
            self._incoming.write(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._ssl if name == "ssl_object" else self._tcp.get_extra_info(name, default)

    # --- Called by the transport below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        if len(data) <= _AT_ONCE_BYTES:
            self._incoming.write(data)
            self._receive()
            return
        for start in range(0, len(data), _AT_ONCE_BYTES):
            self._incoming.write(data[start : start + _AT_ONCE_BYTES])
            self._receive()
            if self._closed:
                return

    def eof_received(self) -> None:
        """The transport below closes itself after this."""
        if self._protocol is None:
            self._fail(ssl.SSLError("the server ended the connection during the handshake"))
        else:
            self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        protocol, self._protocol = self._protocol, None  # the two refer to each other: a cycle, see above
        if protocol is not None:
            protocol.connection_lost(self._error or exc)
        else:
            self._fail_handshake(ssl.SSLError("the connection was lost during the handshake"))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._closed:
            self._flush()

    # --- Between the two protocols

    def _shake_hands(self) -> bool:
        """Continues the handshake; returns whether it is complete and the protocol above has its transport."""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._write_out()
            return False
        except ssl.SSLError as error:
            self._fail(error)
            return False
        self._write_out()
        if self._shaken is None or self._shaken.done():
            return False  # `opened` was cancelled in this turn, and closes the connection
        self._shaken.set_result(None)
        self._protocol = cast(asyncio.Protocol, self._make_protocol())
        del self._make_protocol  # it may refer to the protocol: a cycle, see above
        self._protocol.connection_made(self)
        return not self._closed

    def _fail_handshake(self, error: ssl.SSLError) -> None:
        if self._shaken is not None and not self._shaken.done():
            self._shaken.set_exception(error)
            self._shaken.exception()  # marked as retrieved: `opened` may have been cancelled

    def _receive(self) -> None:
        """Passes received data to the protocol above, record by record."""
        if self._protocol is None and not self._shake_hands():
            return
        protocol = cast(asyncio.Protocol, self._protocol)
        incoming = self._incoming
        while incoming.pending:
            try:
                data = self._decrypt(_RECORD_BYTES)
            except ssl.SSLWantReadError:
                break  # an incomplete record, or one without data
            except ssl.SSLError as error:
                self._fail(error)
                return
            if not data:
                protocol.eof_received()
                self.abort()
                return
            protocol.data_received(data)
            if self._closed:
                return
        if self._unsent or self._outgoing.pending:
            self._flush()

    def _flush(self) -> None:
        """Sends the waiting data and TLS's own messages, unless the transport below has paused."""
        while self._unsent and not self._paused and not self._tcp.is_closing():
            # A repeated attempt must not have less data, and does not: the waiting data only grows.
            piece = bytes(self._unsent[:_AT_ONCE_BYTES])
            try:
                self._encrypt(piece)
            except ssl.SSLWantReadError:
                break  # the server asks for another handshake
            except ssl.SSLError as error:
                self._fail(error)
                return
            del self._unsent[: len(piece)]
            self._write_out()
        self._write_out()

    def _write_out(self) -> None:
        data = self._outgoing.read()
        written = 0
        if not self._buffered or self._tcp.get_write_buffer_size() == 0:
            self._buffered = False
            try:
                written = os.write(self._descriptor, data)
            except OSError:
                written = 0  # not ready, or broken: the transport handles either
        if written != len(data):
            self._buffered = True
            self._tcp.write(data[written:])

    def _fail(self, error: ssl.SSLError) -> None:
        """Closes the connection because of an error, after sending the alert about it."""
        self._write_out()
        error.with_traceback(None)  # its frames refer to this object: a cycle, see above
        if self._protocol is None:
            self._fail_handshake(error)
        else:
            self._error = error
        self.abort()
