"""A bare HTTP server in threads that keeps each request as its bytes came, and answers what the test says."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

ADDRESSES = ("127.0.0.1", "127.0.0.2")
_BOUNDARY = re.compile(rb"--([0-9a-f]{32})(?:--)?\r\n")


@dataclass(frozen=True)
class Received:
    """A request: `headers` in their order, names in lower case; `body` without chunks."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return dict(self.headers).get(name, "")

    def essence(self, *without: str) -> tuple[str, str, list[tuple[str, str]], bytes]:
        """All but the order of the headers, the named ones, and the boundary that a multipart body draws."""
        drawn = _BOUNDARY.match(self.body)
        boundary = drawn[1] if drawn else b"no boundary"
        headers = [(name, value.replace(boundary.decode(), "~")) for name, value in self.headers]
        body = self.body.replace(boundary, b"~")
        return self.method, self.target, sorted(pair for pair in headers if pair[0] not in without), body


def answer(status: int, body: bytes = b"ok", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Some Reason", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body


@dataclass
class EchoServer:
    """As a context manager: serves one port on each of ADDRESSES, with TLS if it has a context."""

    respond: Callable[[Received], bytes]
    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    port: int = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def take(self) -> list[Received]:
        """The requests since the last call, in the order in which they came."""
        taken, self.requests = self.requests, []
        return taken

    def __enter__(self) -> EchoServer:
        self._listeners: list[socket.socket] = []
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        for address in ADDRESSES:
            listener = socket.create_server((address, self.port), backlog=512)
            self.port = listener.getsockname()[1]
            self._listeners.append(listener)
            self._start(self._accept, listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in (*self._listeners, *self._connections):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer was faster
        for thread in self._threads:
            thread.join(10)
        for sock in (*self._listeners, *self._connections):
            sock.close()

    def _start(self, target: Callable[[socket.socket], None], sock: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(sock,))
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # shut down
            self._connections.add(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._connections.add(sock)
            with sock.makefile("rb") as stream:
                while received := self._read(stream):
                    self.requests.append(received)
                    sock.sendall(self.respond(received))
        except OSError:
            pass  # the client is gone, or there was no TLS with it
        finally:
            sock.close()

    def _read(self, stream: object) -> Received | None:
        readline: Callable[[], bytes] = stream.readline  # type: ignore[attr-defined]
        read: Callable[[int], bytes] = stream.read  # type: ignore[attr-defined]
        first = readline()
        if not first.endswith(b"\r\n"):
            return None
        method, target, version = first.decode("ascii").split(" ")
        assert version == "HTTP/1.1\r\n"
        headers = []
        while (line := readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").removesuffix("\r\n").partition(": ")
            headers.append((name.lower(), value))
        fields = dict(headers)
        body = b""
        if fields.get("transfer-encoding") == "chunked":
            while size := int(readline(), 16):
                body += read(size)
                assert readline() == b"\r\n"
            assert readline() == b"\r\n"
        else:
            body = read(int(fields.get("content-length", "0")))
        return Received(method, target, headers, body)
