"""Targets with the habits of real servers, on real sockets, in threads: they go on while an event loop stands still.

Each remembers the requests that it read, as (number of the connection, request id, method).
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
from types import TracebackType
from typing import NamedTuple

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_ID = re.compile(rb"(?i)\r\n(?:x-request-id|traceparent): ([^\r]*)\r\n")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: ([0-9]+)\r\n")


class Seen(NamedTuple):
    connection: int
    request_id: str
    method: str


def ok_to(seen: Seen) -> bytes:
    """A response with status 200."""
    return OK.removesuffix(b"ok") if seen.method == "HEAD" else OK


class RawTarget:
    """Answers each request with 200; subclasses override `serve`. A context manager.

    Attributes:
        tls: of the server's end; None: plain TCP. To be set before a client connects.
    """

    tls: ssl.SSLContext | None = None

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_closing = False
        self.seen: list[Seen] = []
        self.connections = 0
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    def serve(self, connection: socket.socket, number: int) -> None:
        """Serves one connection, which is closed after that."""
        while seen := self.read(connection, number):
            connection.sendall(ok_to(seen))

    def read(self, connection: socket.socket, number: int, *, with_body: bool = True) -> Seen | None:
        """Reads a request and remembers it; returns None at the connection's end.

        Raises:
            TimeoutError: the connection's own time-out has passed without a request.
        """
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(1 << 16)
            if not part:
                return None
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        name, length = _ID.search(head + b"\r\n"), _LENGTH.search(head + b"\r\n")
        seen = Seen(number, name[1].decode() if name else "", head.split(b" ", 1)[0].decode())
        self.seen.append(seen)
        left = int(length[1]) - len(body) if length and with_body else 0
        while left > 0:
            part = connection.recv(min(left, 1 << 16))
            if not part:
                return None
            left -= len(part)
        return seen

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_closing:
                    connection.close()
                    return
                # Nagle's algorithm would hold an answer back behind TLS tickets, and a close with unread data drop it.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._open.add(connection)
                thread = threading.Thread(target=self._run, args=(connection, self.connections), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            served = self.tls.wrap_socket(connection, server_side=True) if self.tls is not None else connection
            try:
                self.serve(served, number)
            finally:
                served.close()
        with self._lock:
            self._open.discard(connection)
            connection.close()

    def __enter__(self) -> RawTarget:
        thread = threading.Thread(target=self._accept, daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_closing = True
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


class KeepAliveExpiring(RawTarget):
    """Closes a connection that was idle for `idle_s`, after it has sent `goodbye` there, as many servers send a 408."""

    def __init__(self, idle_s: float, goodbye: bytes = b"") -> None:
        super().__init__()
        self._idle_s = idle_s
        self._goodbye = goodbye

    def serve(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(self._idle_s)
        try:
            super().serve(connection, number)
        except TimeoutError:
            connection.sendall(self._goodbye)


class ClosingUnread(RawTarget):
    """Answers so many requests on a connection, and ends it when the next one comes, as if it had done so before.

    Args:
        served: requests that are answered on each connection.
        is_reset: whether the end is a reset.
        beginning: of a response, sent before the end.
    """

    def __init__(self, served: int = 1, *, is_reset: bool = False, beginning: bytes = b"") -> None:
        super().__init__()
        self._served = served
        self._is_reset = is_reset
        self._beginning = beginning

    def serve(self, connection: socket.socket, number: int) -> None:
        for _ in range(self._served):
            seen = self.read(connection, number)
            if seen is None:
                return
            connection.sendall(ok_to(seen))
        if self.read(connection, number):
            connection.sendall(self._beginning)
            if self._is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class AnsweringEarly(RawTarget):
    """Answers as soon as it has a request's head, and closes without reading the body: that resets the connection."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self._answer = answer

    def serve(self, connection: socket.socket, number: int) -> None:
        if self.read(connection, number, with_body=False):
            connection.sendall(self._answer)


class Lingering(AnsweringEarly):
    """As AnsweringEarly, but it reads the rest before it closes, as nginx does (lingering_close)."""

    def serve(self, connection: socket.socket, number: int) -> None:
        super().serve(connection, number)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
