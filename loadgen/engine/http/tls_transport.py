"""TLS at a client's end, over a TCP transport of the event loop.

Why not the loop's own, which costs as much CPU: uvloop's says that nothing waits to be sent while encrypted data waits
in the transport below, so that a connection whose request is only half sent would be used for the next one; and a
server is not told why it was refused. Nor does OpenSSL get the descriptor: it reads each record with two system calls,
which costs more than the copies here; and uvloop, once it has seen a reset, says no more of a descriptor with data.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

_RECORD_BYTES: Final = 16 * 1024  # a record holds no more: whoever reads so much leaves nothing of it with OpenSSL
_AT_ONCE_BYTES: Final = 64 * 1024  # to be decrypted or encrypted: a BIO stays as large as it ever was
_NO_DESCRIPTOR: Final = -1


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """The protocol of a TCP transport below; the transport of a protocol above, which it makes after the handshake.

    `connection_lost` has an exception when TLS or TCP broke, and none after an end of data, with or without TLS's own
    sign of it (`close_notify`). `abort` sends no such sign, as `requests` sends none.
    Not here: flow control of what is read, `close`, and what else no protocol of the engine asks for.

    Args:
        server_name: which the certificate has to name, if the context checks that.
        make_protocol: called when the handshake is complete.

    Raises:
        ValueError: the name can be nobody's.
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
        self._protocol: asyncio.Protocol | None = None  # while there is none, hands are being shaken
        self._shaken: asyncio.Future[None] | None = loop.create_future()  # until the end of the handshake was seen
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
            self._shaken = None  # its exception knows this frame: a cycle, and nobody collects those in a run

    # --- Called by the protocol above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends at once what the socket takes."""
        if self._closed:
            return
        if not self._unsent and len(data) <= _AT_ONCE_BYTES:
            try:
                self._encrypt(data)
            except ssl.SSLError:
                pass  # `_flush` meets it again, and deals with it
            else:
                self._write_out()
                return
        self._unsent += data
        self._flush()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent) + self._tcp.get_write_buffer_size()

    def abort(self) -> None:
        """Closes at once; `connection_lost` comes in another turn of the loop."""
        self._closed = True
        self._tcp.abort()

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
        protocol, self._protocol = self._protocol, None  # the two know each other: a cycle, see above
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

    # --- Between the two

    def _shake_hands(self) -> bool:
        """Whether it is done, and the protocol above has its transport."""
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
            return False  # who waited was cancelled in this very turn, and closes the connection
        self._shaken.set_result(None)
        self._protocol = cast(asyncio.Protocol, self._make_protocol())
        del self._make_protocol  # it may know the protocol: a cycle, see above
        self._protocol.connection_made(self)
        return not self._closed

    def _fail_handshake(self, error: ssl.SSLError) -> None:
        if self._shaken is not None and not self._shaken.done():
            self._shaken.set_exception(error)
            self._shaken.exception()  # seen: who waited may be gone

    def _receive(self) -> None:
        """Hands up what has come, record by record."""
        if self._protocol is None and not self._shake_hands():
            return
        protocol = cast(asyncio.Protocol, self._protocol)
        incoming = self._incoming
        while incoming.pending:
            try:
                data = self._decrypt(_RECORD_BYTES)
            except ssl.SSLWantReadError:
                break  # part of a record, or one that is TLS's own
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
        """Sends what waits, and what TLS itself has to say, as far as the transport below wants it."""
        while self._unsent and not self._paused:
            # If this has to be tried again, it must not be less then: what waits only grows.
            piece = bytes(self._unsent[:_AT_ONCE_BYTES])
            try:
                self._encrypt(piece)
            except ssl.SSLWantReadError:
                break  # the server wants to shake hands again
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
                written = 0  # not ready, or broken: either is the transport's matter
        if written != len(data):
            self._buffered = True
            self._tcp.write(data[written:])

    def _fail(self, error: ssl.SSLError) -> None:
        """Ends the connection because of this, after OpenSSL has told the server why."""
        self._write_out()
        error.with_traceback(None)  # its frames know this object: a cycle, see above
        if self._protocol is None:
            self._fail_handshake(error)
        else:
            self._error = error
        self.abort()
