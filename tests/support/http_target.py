"""A bare fast HTTP responder for tests: `python -m tests.support.http_target --port 0 [--mode MODE] [--log FILE]`.

It prints its port, keeps `<unix time> <request id> <method> <path>` of each request in memory, writes them to the log
file on SIGTERM, and answers `GET /__log` with them. A request to `/mode/<mode>/...` is served in that mode, any other
one in the mode of the command line.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gzip
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httptools
import uvloop

from tests.support.ids import begin_of

ROOT = Path(__file__).parents[2]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
GZIPPED = gzip.compress(b"ok", mtime=0)
SLOW_S = 0.1
HUGE = 100 << 20
_PIECE = 1 << 20
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")

# What a mode answers, and whether the connection is closed after that.
FIXED: dict[str, tuple[bytes, bool]] = {
    "ok": (OK, False),
    "error": (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", False),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", False),
    "nocontent": (b"HTTP/1.1 204 No Content\r\n\r\n", False),
    "notmodified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n", False),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, False),
    "lastresponse": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", True),
    "claimsclose": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", False),
    "goodbye": (OK, True),  # closes, but does not say so
    "eof": (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True),
    "http10": (b"HTTP/1.0 200 OK\r\n\r\nold", True),
    "partial": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", True),
    "close": (b"", True),
    "garbage": (b"\x00\x01 this is not HTTP at all\r\n\r\n", False),
    "excess": (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nnobody!", False),
    "garbagebehind": (OK + b"\x00\x01 this is not HTTP at all\r\n\r\n", False),
    "headlength": (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", False),
    "headbare": (b"HTTP/1.1 200 OK\r\nServer: bare\r\n\r\n", False),
    "headbody": (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", False),
    "hints": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, False),
    "gzip": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n" + GZIPPED, False),
    "binary": (b"HTTP/1.1 200 \xff\xfe\r\nX-Odd: \xc3(\r\nContent-Length: 3\r\n\r\n\xff\x00\xfe", False),
    "longheader": (b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (1 << 20) + b"\r\nContent-Length: 2\r\n\r\nok", False),
    "endlesshead": (b"HTTP/1.1 200 OK\r\n" + b"X-Filler: fill fill fill fill\r\n" * 4000, False),
}
MODES = (*FIXED, "slow", "hang", "reset", "split", "stall", "drip", "huge", "halfclose", "halfway")


class Responder(asyncio.Protocol):
    """One connection."""

    connections = 0

    def __init__(self, mode: str, log: list[tuple[float, bytes, bytes, bytes]]) -> None:
        self._mode = mode
        self._log = log
        self._id = self._url = b""
        self._between = True  # no part of a request was received
        self._transport: Any = None
        self._parser: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Responder.connections += 1
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser = None

    def data_received(self, data: bytes) -> None:
        # A whole GET without a body needs no parser: that leaves the core to whom the test is about.
        if (
            self._between
            and data.startswith(b"GET ")
            and data.find(b"\r\n\r\n") == len(data) - 4
            and b"Content-Length" not in data
            and b"Transfer-Encoding" not in data
        ):
            _, _, rest = data.partition(b"X-Request-Id: ")
            self._id = rest[: rest.find(b"\r")]
            self._respond(b"GET", data[4 : data.index(b" ", 4)])
            return
        self._between = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._id = self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"X-Request-Id":
            self._id = value

    def on_message_complete(self) -> None:
        self._between = True
        self._respond(self._parser.get_method(), self._url)

    def _respond(self, method: bytes, url: bytes) -> None:
        if url == b"/__log":
            body = log_text(self._log)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        if url == b"/__connections":
            body = b"%d" % Responder.connections
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        self._log.append((time.time(), self._id, method, url))
        mode = self._mode
        if url.startswith(b"/mode/"):
            mode = url.split(b"/")[2].decode()
        self._answer(mode)

    def _answer(self, mode: str) -> None:
        fixed = FIXED.get(mode)
        if fixed is not None:
            response, last = fixed
            self._transport.write(response)
            if last:
                self._transport.close()
            return
        loop = asyncio.get_running_loop()
        if mode == "slow":
            loop.call_later(SLOW_S, self._write, OK)
        elif mode == "reset":
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            self._transport.abort()
        elif mode == "split":
            self._trickle(OK)
        elif mode == "drip":
            self._write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
            self._drip(20)
        elif mode == "huge":
            self._write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUGE)
            self._stream(HUGE)
        elif mode in ("halfclose", "halfway"):  # sends no more, but goes on reading
            self._transport.write(OK if mode == "halfclose" else OK[:-1])
            self._transport.write_eof()
        elif mode == "stall":
            self._transport.write(OK[:-1])
        elif mode != "hang":
            self._transport.write(b"HTTP/1.1 500 Unknown Mode\r\nContent-Length: 0\r\n\r\n")

    def _trickle(self, data: bytes) -> None:
        """Writes a few bytes now and the rest later."""
        self._write(data[:5])
        if data[5:]:
            asyncio.get_running_loop().call_later(0.001, self._trickle, data[5:])

    def _drip(self, left: int) -> None:
        """Writes a byte every 10 ms."""
        self._write(b"x")
        if left > 1:
            asyncio.get_running_loop().call_later(0.01, self._drip, left - 1)

    def _stream(self, left: int) -> None:
        """Writes as fast as the other side reads."""
        while left and self._transport.get_write_buffer_size() < _PIECE:
            self._write(b"x" * min(left, _PIECE))
            left -= min(left, _PIECE)
        if left and not self._transport.is_closing():
            asyncio.get_running_loop().call_later(0.001, self._stream, left)

    def _write(self, data: bytes) -> None:
        """Writes later, if there still is a connection."""
        if not self._transport.is_closing():
            self._transport.write(data)


def log_text(log: list[tuple[float, bytes, bytes, bytes]]) -> bytes:
    return b"".join(b"%.6f %b %b %b\n" % (at, name or b"-", method, path) for at, name, method, path in log)


async def serve(port: int, mode: str, log_file: Path | None, announce: Callable[[int], None]) -> None:
    """Serves on the same port of each of ADDRESSES until SIGTERM."""
    log: list[tuple[float, bytes, bytes, bytes]] = []
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_signal_handler(signal.SIGINT, stopped.set)
    servers = []
    for address in ADDRESSES:
        server = await loop.create_server(lambda: Responder(mode, log), address, port, backlog=4096)
        port = server.sockets[0].getsockname()[1]
        servers.append(server)
    announce(port)
    await stopped.wait()
    for server in servers:
        server.close()
    if log_file is not None:
        log_file.write_bytes(log_text(log))


def die_with(parent: int) -> None:
    """Ends this process when its parent does (Linux: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mode", choices=MODES, default="ok")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--parent", type=int, default=0, help="pid of the process to end with")
    arguments = parser.parse_args()
    if arguments.parent:
        die_with(arguments.parent)
    uvloop.run(serve(arguments.port, arguments.mode, arguments.log, lambda port: print(port, flush=True)))  # noqa: T201


class HttpTarget:
    """The responder in a process of its own, as a context manager; `host` is what a routing record names."""

    def __init__(self, mode: str = "ok", log: Path | None = None) -> None:
        self.mode = mode
        self.log_file = log
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def hosts(self) -> list[str]:
        """Three names for it: one port on three addresses."""
        return [f"{address}:{self.port}" for address in ADDRESSES]

    def start(self) -> HttpTarget:
        command = [sys.executable, "-m", "tests.support.http_target", "--port", str(self.port), "--mode", self.mode]
        if self.log_file is not None:
            command += ["--log", str(self.log_file)]
        command += ["--parent", str(os.getpid())]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip().isdigit():
            self.stop()
            raise RuntimeError("the HTTP target did not start")
        self.port = int(line)
        return self

    def stop(self) -> None:
        """Ends the process; its log file is written then."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()

    def freeze(self, frozen: bool) -> None:
        """Stops the process, as a machine that swaps or a collector of garbage does, or lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def log(self) -> list[tuple[float, str, str, str]]:
        """(unix time, request id, method, path) of each request so far."""
        entries = []
        for line in self._get("/__log").splitlines():
            at, name, method, path = line.split(" ", 3)
            entries.append((float(at), name, method, path))
        return entries

    def ids(self, group_id: str) -> list[str]:
        """The request ids of one client group, in the order of their arrival."""
        return [name for _, name, _, _ in self.log() if name.startswith(begin_of(group_id))]

    def connections(self) -> int:
        """How many connections were accepted so far, this question's own included."""
        return int(self._get("/__connections"))

    def _get(self, path: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall(b"GET %b HTTP/1.1\r\nHost: log\r\n\r\n" % path.encode())
            received = b""
            while b"\r\n\r\n" not in received:
                received += sock.recv(65536)
            head, body = received.split(b"\r\n\r\n", 1)
            length = int(head.rpartition(b"Content-Length: ")[2])
            while len(body) < length:
                body += sock.recv(1 << 20)
        return body.decode()

    def __enter__(self) -> HttpTarget:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


if __name__ == "__main__":
    main()
