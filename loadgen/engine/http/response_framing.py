"""The rare questions about a response's head, which the parser does not answer; asked only where they matter."""

from __future__ import annotations

from collections.abc import Callable

import httptools

MAX_HEAD_BYTES = 64 << 10


class _Head:
    """What matters of the last head in some bytes that is not an interim one (1xx)."""

    status: Callable[[], int]  # of the parser; taken away after parsing, as the cycle would keep both alive

    def __init__(self) -> None:
        self.framed = False
        self.connection = b""
        self.version = ""
        self._complete = False

    def on_message_begin(self) -> None:
        if not self._complete:
            self.framed, self.connection = False, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            return
        name, value = name.lower(), value.lower()
        if name == b"content-length" or (name == b"transfer-encoding" and value.rstrip().endswith(b"chunked")):
            self.framed = True
        elif name == b"connection":
            self.connection = value

    def on_headers_complete(self) -> None:
        if self.status() >= 200:
            self._complete = True


def _parse(data: bytes) -> _Head:
    head = _Head()
    parser = httptools.HttpResponseParser(head)
    head.status = parser.get_status_code
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        # What is wrong lies behind the head: the connection's own parser has read the head already.
        return head
    finally:
        head.version = parser.get_http_version()
        del head.status
    return head


def ends_with_eof(data: bytes) -> bool:
    """Whether the response whose head (and maybe more) this is has neither a length nor chunks: it ends with EOF."""
    return not _parse(data).framed


def keeps_alive(data: bytes) -> bool:
    """Whether the connection lives on after a response without a body whose head this is."""
    head = _parse(data)
    tokens = [token.strip() for token in head.connection.split(b",")]
    return b"close" not in tokens if head.version == "1.1" else b"keep-alive" in tokens
