"""The engine accepts the replies that `requests` accepts, with the same status and size, but for named differences.

`requests` reads each reply from memory, and then finds the end of the connection.
"""

from __future__ import annotations

import io
import os
import random
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

from loadgen.engine.deadlines import Deadlines
from loadgen.engine.http.connection import Connection
from loadgen.engine.http.response.known_heads import KnownHeads
from loadgen.engine.http.wire_request import WireRequest
from loadgen.engine.recorder import Recorder
from loadgen.protocol.outcomes import MalformedReason, Outcome
from tests.loadgen.engine.harness import Row, unpack
from tests.support.replies import pieces, reply

# How many replies are drawn, and from which seed: variables for longer runs.
REPLIES = int(os.environ.get("GALILEO_TEST_REPLIES", "6000"))
SEED = int(os.environ.get("GALILEO_TEST_SEED", "20261130"))

# The differences that docs/engine.md names, each with the replies that it is about.
_BLANK = rb"[\s\x1c-\x1f\x85\xa0]"  # white space of str in Latin-1
_STATUS = rb"HTTP/[^\s\x1c-\x1f\x85\xa0]*" + _BLANK + rb"+\+?[0_]*"
_CONTINUE = re.compile(_BLANK + rb"*" + _STATUS + rb"100(?:" + _BLANK + rb"|$)")


def _is_incomplete(data: bytes) -> bool:
    """Whether the head behind those of 100 (Continue), if there are any, lacks its end."""
    heads = re.split(rb"\n\r?\n", data)
    final = next((number for number, head in enumerate(heads) if not _CONTINUE.match(head)), 0)
    return final == len(heads) - 1


NAMED: dict[str, Callable[[bytes], Any]] = {
    "an interim response is not the final one": re.compile(_STATUS + rb"1(?:0[2-9]|[1-9][0-9])" + _BLANK).search,
    "a head must be complete": _is_incomplete,
    "101, 204 and 304 have no body": re.compile(_STATUS + rb"(?:101|204|304)" + _BLANK).search,
    "a body has the length in the first of two headers": re.compile(rb"(?is)content-length.*content-length").search,
    "equal lengths in one header are one length": re.compile(rb"(?i)[\r\n]content-length\s*:[^\r\n]*,").search,
}


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
# Replies of real servers, and those that showed a difference once.
ODD: dict[str, bytes] = {
    "length and chunks": _CHUNKED + b"Content-Length: 12\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks and length": b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n" + _CHUNKED[17:] + b"\r\n2\r\nok\r\n0\r\n\r\n",
    "coding that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
    "line feeds alone": b"HTTP/1.1 200 OK\nServer: GoAhead\nContent-Length: 2\n\nok",
    "line feed behind the head": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
    "folded header": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "folded length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok",
    "control character": b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nok",
    "null in the reason": b"HTTP/1.1 200 \0\r\nContent-Length: 2\r\n\r\nok",
    "blank before the status line": b" HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "carriage return before the status line": b"\rHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "next line (NEL) before the status line": b"\x85HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "empty line before the status line": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "blank before the second status line": b"HTTP/1.1 100 OK\r\n\r\n HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "interim status with a sign": b"HTTP/1.1 +100\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "interim status that is none": b"HTTP/1\x85x 100 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no-break space in the status line": b"HTTP/1.1\xa0200\xa0OK\r\nContent-Length: 2\r\n\r\nok",
    "two blanks": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    "tab": b"HTTP/1.1\t200\tOK\r\nContent-Length: 2\r\n\r\nok",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "status with a sign": b"HTTP/1.1 +200 OK\r\nContent-Length: 2\r\n\r\nok",
    "status with four digits": b"HTTP/1.1 0200 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 999": b"HTTP/1.1 999 Request denied\r\nContent-Length: 2\r\n\r\nok",
    "version 1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "version 0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "header without a colon": b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nall of this",
    "header without a name": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok",
    "blank before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nall of this",
    "carriage return in a value": b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 2\r\n\r\nok",
    "99 headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 98 + b"Content-Length: 2\r\n\r\nok",
    "99 headers of an interim head": b"HTTP/1.1 100 OK\r\n" + b"X: y\r\n" * 99 + b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    "100 headers of an interim head": b"HTTP/1.1 100 OK\r\n" + b"X: y\r\n" * 100 + b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    "length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "length below 0": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nall of this",
    "length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: 2 bytes\r\n\r\nall of this",
    "length of 20 digits": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
    "length of 5,000 digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\nall of this",
    "upgrade without 101": b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok",
    "several codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunk with an extension": _CHUNKED + b"\r\n2;a=b\r\nok\r\n0\r\n\r\n",
    "chunk with blanks": _CHUNKED + b"\r\n 2 \r\nok\r\n0\r\n\r\n",
    "chunk as in Python": _CHUNKED + b"\r\n0x0_2\r\nok\r\n0\r\n\r\n",
    "chunk with other bytes behind it": _CHUNKED + b"\r\n2\r\nokxx0\r\n\r\n",
    "chunk sizes with line feeds": _CHUNKED + b"\r\n2\nok\r\n0\n\r\n",
    "chunks without their end": _CHUNKED + b"\r\n2\r\nok\r\n",
    "no trailer": _CHUNKED + b"\r\n2\r\nok\r\n0\r\n",
    "last size without its line's end": _CHUNKED + b"\r\n2\r\nok\r\n0",
    "trailers": _CHUNKED + b"\r\n2\r\nok\r\n0\r\nX: y\r\n\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "body longer than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
    "body shorter than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
}


class _MemorySocket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class _MemoryConnection(urllib3.connection.HTTPConnection):
    data = b""

    def connect(self) -> None:
        self.sock = cast(Any, _MemorySocket(self.data))

    @property
    def is_connected(self) -> bool:
        return False  # so that each request gets a socket of its own


class _MemoryPool(urllib3.HTTPConnectionPool):
    ConnectionCls = cast(Any, _MemoryConnection)


class Library:
    """Reads replies by `requests`."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        adapter = HTTPAdapter(max_retries=0)
        adapter.poolmanager.pool_classes_by_scheme = {"http": _MemoryPool}
        self._session.mount("http://", adapter)

    def read(self, data: bytes) -> tuple[int, int] | None:
        """Returns the status and the size of the body; None if `requests` raises an error."""
        _MemoryConnection.data = data
        try:
            response = self._session.get("http://target/", stream=True, allow_redirects=False)
            with response:
                size = sum(len(part) for part in response.raw.stream(1 << 16, decode_content=False))
        except (requests.RequestException, urllib3.exceptions.HTTPError):
            return None
        return response.status_code, size


class Engine:
    """Reads replies by a connection of the engine, without an event loop."""

    def __init__(self) -> None:
        self._ends = socket.socketpair()
        self._recorder = Recorder()
        pool = SimpleNamespace(
            recorder=self._recorder,
            now_ns=lambda: 1,
            known_heads=KnownHeads(),
            deadlines=Deadlines(),
            in_flight=0,
            on_end=None,
            send_until_ns=1 << 62,
        )
        nothing = lambda *_: None  # noqa: E731
        self._host = cast(
            Any,
            SimpleNamespace(
                name="target:80",
                keep_alive=True,
                is_named=False,
                pool=pool,
                connected=nothing,
                ready=nothing,
                closed=nothing,
                lost=nothing,
            ),
        )
        extra = {"ssl_object": self, "socket": self._ends[0]}
        self._transport = cast(
            Any,
            SimpleNamespace(get_extra_info=extra.get, write=nothing, abort=nothing, get_write_buffer_size=lambda: 0),
        )
        self._wire = WireRequest(b"GET / HTTP/1.1\r\nX-Request-Id: g.", b"\r\n\r\n", 1 << 60, False)

    def read(self, parts: list[bytes]) -> Row:
        self._host.pool.known_heads.tick()
        connection = Connection(self._host)
        connection.connection_made(self._transport)
        connection.write(connection.load(0, 0, 0, 1, self._wire), 0)
        for part in parts:
            connection.data_received(part)
        connection.eof_received()
        connection.connection_lost(None)
        (row,) = unpack(*self._recorder.take())
        return row

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    opened = Engine()
    yield opened
    opened.close()


def compare(engine: Engine, library: Library, data: bytes, parts: list[bytes]) -> tuple[str, bool]:
    """Returns the name of the difference, "" for none, and whether `requests` accepts the reply.

    Fails for a difference without a name.
    """
    theirs, row = library.read(data), engine.read(parts)
    ours = (row.status, row.size) if row.outcome == Outcome.COMPLETED else None
    assert (row.reason != MalformedReason.NONE) == (row.outcome == Outcome.MALFORMED)
    if ours == theirs:
        return "", theirs is not None
    named = [name for name, applies in NAMED.items() if applies(data)]
    assert named, f"{data!r}: requests gives {theirs}, the engine {ours}, outcome {Outcome(row.outcome).name}"
    return named[0], theirs is not None


@pytest.mark.costly
def test_the_engine_accepts_what_requests_accepts(engine: Engine) -> None:
    source, library = random.Random(SEED), Library()
    found: Counter[str] = Counter()
    accepted = 0
    for _ in range(REPLIES):
        data = reply(source)
        difference, is_accepted = compare(engine, library, data, pieces(source, data))
        found[difference] += 1
        accepted += is_accepted
    assert REPLIES / 4 < accepted < 3 * REPLIES / 4  # both kinds are there
    assert set(found) == {"", *NAMED}
    assert found[""] > 0.8 * REPLIES


@pytest.mark.parametrize("name", ODD)
def test_an_odd_reply_is_read_as_by_requests(engine: Engine, name: str) -> None:
    data = ODD[name]
    whole, in_bytes = [data], [data[at : at + 1] for at in range(len(data))]
    for parts in (whole, in_bytes):
        assert compare(engine, Library(), data, parts)[0] == ""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", MalformedReason.STATUS_LINE),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", MalformedReason.STATUS_LINE),
        (b"HTTP/1.1 99 Low\r\n\r\n", MalformedReason.STATUS_LINE),
        (b"HTTP/1.1 abc\r\n", MalformedReason.STATUS_LINE),
        (b"HTTP/2 200\r\n\r\n", MalformedReason.VERSION),
        (b"HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nok", MalformedReason.VERSION),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, MalformedReason.HEAD_TOO_LONG),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100 + b"\r\n", MalformedReason.HEAD_TOO_LONG),
        (b"HTTP/1.1 103 Hints\r\n\r\n" * 3000, MalformedReason.HEAD_TOO_LONG),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", MalformedReason.CONTENT_LENGTHS),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok", MalformedReason.CONTENT_LENGTHS),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", MalformedReason.CHUNK),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", MalformedReason.CHUNK),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000, MalformedReason.CHUNK),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20_000, MalformedReason.CHUNK),
    ],
)
def test_a_malformed_reply_has_a_reason(engine: Engine, data: bytes, reason: MalformedReason) -> None:
    for parts in ([data], [data[:10], data[10:]]):
        row = engine.read(parts)
        assert (row.outcome, MalformedReason(row.reason), row.status) == (Outcome.MALFORMED, reason, 0)
