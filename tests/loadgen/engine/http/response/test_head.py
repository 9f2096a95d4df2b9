"""The head of a response: its status, where its body ends, whether its connection stays open."""

from __future__ import annotations

import http.client
import io
from types import SimpleNamespace
from typing import Any, cast

import pytest

from loadgen.engine.http.response.head import CHUNKED, UNTIL_EOF, ResponseHead, final_head, read_head
from loadgen.engine.http.response.known_heads import KnownHeads

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", UNTIL_EOF),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 5),
        (b"HTTP/1.1 200 OK\r\ncontent-length:5368709120\r\n\r\n", 5 << 30),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", CHUNKED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked \r\n\r\n", CHUNKED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", UNTIL_EOF),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 0),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 0),
        (b"HTTP/1.1 101 Switching\r\n\r\n", 0),
    ],
)
def test_the_head_says_where_the_body_ends(head: bytes, length: int) -> None:
    assert read_head(head).length == length


@pytest.mark.parametrize(
    ("head", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x, close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: close\r\n\r\n", True),  # http.client reads the first
        (b"HTTP/1.1 200 OK\nConnection: close\n\n", False),
        (b"HTTP/1.0 200 OK\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nKeep-Alive: timeout=5\r\n\r\n", True),
        (b"HTTP/1.1 101 Switching\r\n\r\n", False),
    ],
)
def test_the_head_says_if_the_connection_stays_open(head: bytes, keep: bool) -> None:
    assert read_head(head).keep is keep


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_connections_stay_open_as_in_http_client(version: bytes) -> None:
    """With each pair of the headers that http.client reads for this."""
    values = (b"close", b"Keep-Alive", b"x, keep-alive", b"timeout=5", b"")
    names = (b"Connection", b"Keep-Alive", b"Proxy-Connection")
    lines = [b"", *(name + b": " + value + b"\r\n" for name in names for value in values)]
    for first in lines:
        for second in lines:
            head = b"HTTP/" + version + b" 200 OK\r\n" + first + second + b"Content-Length: 2\r\n\r\n"
            received = SimpleNamespace(makefile=lambda _, head=head: io.BytesIO(head))
            expected = http.client.HTTPResponse(cast(Any, received))
            expected.begin()
            assert read_head(head).keep is not expected.will_close, head


def test_usual_and_unusual_heads_are_read_alike() -> None:
    """A header with a control character has http.client read a head, whose other lines mean the same."""
    for lines in (b"", b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"):
        for status in (b"200", b"204", b"304", b"404", b"101"):
            for version in (b"1.0", b"1.1"):
                head = b"HTTP/" + version + b" " + status + b" X\r\n" + lines
                assert read_head(head + b"\r\n") == read_head(head + b"X: \x01\r\n\r\n"), head


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\nLink: x\n\n"])
def test_the_final_head_is_found_behind_interim_ones(interim: bytes) -> None:
    begin, end = final_head(interim + OK + b"ok")
    assert (interim + OK + b"ok")[begin:end] == OK
    assert final_head(interim + OK[:-2]) == (len(interim), len(interim + OK) - 2)


@pytest.mark.parametrize(
    ("head", "is_kept"),
    [
        (OK, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + b"a" * 5000 + b"\r\n\r\n", False),
    ],
)
def test_heads_that_keep_their_connection_are_remembered(head: bytes, is_kept: bool) -> None:
    heads = KnownHeads()
    heads.learn(head, read_head(head))
    assert (head in heads.heads) is is_kept
    if is_kept:
        assert heads.heads[head] == read_head(head)


def test_few_heads_are_learned_per_tick() -> None:
    heads = KnownHeads()
    for number in range(10):
        heads.learn(OK[:-2] + b"X: %d\r\n\r\n" % number, ResponseHead(200, True, 2))
    assert len(heads.heads) == 4
    heads.tick()
    heads.learn(OK, ResponseHead(200, True, 2))
    assert len(heads.heads) == 5
