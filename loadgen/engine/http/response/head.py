"""read_head: reads a response's head as `requests` does.

A head of the usual form is read by a regular expression. Any other one is read by http.client, on which `requests` is
built, and its body's length is found as urllib3 finds it (HTTPResponse._init_length and its constructor).
"""

from __future__ import annotations

import http.client
import io
import re
import socket
from typing import Final, NamedTuple, cast

from loadgen.protocol.outcomes import MalformedReason

MAX_HEAD_BYTES: Final = 64 << 10  # of a final head and the interim heads (1xx) before it
# `length` of a response whose body comes in chunks, or ends with the connection.
CHUNKED: Final = -1
UNTIL_EOF: Final = -2

# An empty line ends a head; http.client accepts line feeds alone.
END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_BEGIN: Final = "HTTP/"
_SWITCHING: Final = 101
_MAX_LENGTH: Final = 1 << 62
_MAX_HEADERS: Final = 99  # http.client refuses more than 100 lines, the empty one included
# No control characters, no folded lines, nothing that Python takes for the end of a line.
_USUAL_HEAD: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\xa0-\xff]*)?\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\xa0-\xff]*\r\n)*)\r\n"
)
_USUAL_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


class MalformedError(Exception):
    """The bytes are not a response that `requests` accepts."""

    def __init__(self, reason: MalformedReason) -> None:
        super().__init__(reason.name.lower())
        self.reason = reason


class ResponseHead(NamedTuple):
    """A head, whatever the request's method: a response to HEAD has no body, and keeps its connection if it may."""

    status: int
    keep: bool  # whether the server keeps the connection open after the response
    length: int  # of the body in bytes; CHUNKED or UNTIL_EOF

    @property
    def is_interim(self) -> bool:
        """Whether another head follows for the same request. After 101 the connection has another protocol."""
        return self.status < 200 and self.status != _SWITCHING


def read_head(head: bytes) -> ResponseHead:
    """Returns what a complete head, from its status line to its empty line, says.

    Raises:
        MalformedError
    """
    usual = _USUAL_HEAD.fullmatch(head)
    if usual is None or usual[3].count(b"\n") > _MAX_HEADERS:
        return _read_unusual(head)
    block = head.lower()
    coding, length_text = _field(block, b"\ntransfer-encoding:"), _field(block, b"\ncontent-length:")
    connection, alive = _field(block, b"\nconnection:"), _field(block, b"\nkeep-alive:")
    proxy = b"" if usual[1] == b"1" else _field(block, b"\nproxy-connection:")
    if coding is None or length_text is None or connection is None or alive is None or proxy is None:
        return _read_unusual(head)
    if coding not in (b"", b"chunked") or (length_text and not _USUAL_LENGTH.fullmatch(length_text)):
        return _read_unusual(head)
    if usual[1] == b"1":
        keep = b"close" not in connection
    else:
        keep = bool(alive) or b"keep-alive" in connection or b"keep-alive" in proxy
    length = CHUNKED if coding else int(length_text) if length_text else UNTIL_EOF
    return _head(int(usual[2]), keep, length)


def _field(block: bytes, name: bytes) -> bytes | None:
    """Returns the value of a header in lower case, empty without one; None if it is there more than once."""
    begin = block.find(name)
    if begin < 0:
        return b""
    begin += len(name)
    if block.find(name, begin) >= 0:
        return None
    return block[begin : block.index(b"\r", begin)].strip(b" \t")


def check_begin(data: bytes) -> None:
    """Raises MalformedError if no more bytes could make a head of these."""
    line = _first_line(data)
    begin = line.lstrip()  # http.client splits a status line at all that str takes for white space
    is_complete = line.endswith("\n")
    if not begin.startswith(_BEGIN[: len(begin)]) or (is_complete and not begin):
        raise MalformedError(MalformedReason.STATUS_LINE)
    if is_complete:
        read_head(line.encode("latin-1") + b"\r\n")


def final_head(data: bytes) -> tuple[int, int]:
    """Returns where the head of a message begins and ends, without the interim heads (1xx) before it.

    The end is that of the data if the head is incomplete.
    """
    begin = 0
    while (found := END_OF_HEAD.search(data, begin)) is not None:
        if not _interim_status(data, begin):
            return begin, found.end()
        begin = found.end()
    return begin, len(data)


def may_redirect(status: int) -> bool:
    """Returns whether a response of this status may be a redirect, for which its head is needed."""
    return 300 < status < 400 and status != 304


def _first_line(data: bytes, begin: int = 0) -> str:
    """Returns a line with its end, or what there is of it."""
    return data[begin : data.find(b"\n", begin) + 1 or len(data)].decode("latin-1")


def _interim_status(data: bytes, begin: int = 0) -> int:
    """Returns the status of the interim head that begins there; 0 if it is none."""
    parts = _first_line(data, begin).split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(_BEGIN):
        return 0
    status = _whole_number(parts[1]) or 0
    return status if 100 <= status < 200 and status != _SWITCHING else 0


class _Received:
    """Stands for a socket from which http.client reads."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _head(status: int, keep: bool, length: int) -> ResponseHead:
    if status < 200 or status in (204, 304):
        length = 0
    return ResponseHead(status, keep and status != _SWITCHING, length)


def _read_unusual(head: bytes) -> ResponseHead:
    """As `read_head`, for every head."""
    if interim := _interim_status(head):
        if head.count(b"\n") > _MAX_HEADERS + 2:
            raise MalformedError(MalformedReason.HEAD_TOO_LONG)
        return _head(interim, True, 0)  # http.client would read on to the next head
    # For other methods, it would also close the connection after a response without a length.
    response = http.client.HTTPResponse(cast(socket.socket, _Received(head)), method="HEAD")
    try:
        response.begin()
    except http.client.BadStatusLine as error:
        raise MalformedError(MalformedReason.STATUS_LINE) from error
    except http.client.UnknownProtocol as error:
        raise MalformedError(MalformedReason.VERSION) from error
    except http.client.HTTPException as error:  # the length of a line, or the number of headers
        raise MalformedError(MalformedReason.HEAD_TOO_LONG) from error
    codings = ", ".join(response.headers.get_all("transfer-encoding", [])).lower()
    length = CHUNKED
    if "chunked" not in (coding.strip() for coding in codings.split(",")):
        length = _length(response.headers.get_all("content-length", []))
    return _head(response.status, not response.will_close, length)


def _length(values: list[str]) -> int:
    """Returns the length of a body by its Content-Length headers.

    http.client takes the first one. urllib3 joins them, and refuses those that contradict each other.

    Raises:
        MalformedError
    """
    first = _whole_number(values[0]) if values else None
    numbers = {_whole_number(value) for value in ", ".join(values).split(",")}
    if None not in numbers and len(numbers) > 1:
        raise MalformedError(MalformedReason.CONTENT_LENGTHS)
    agreed = numbers.pop() if len(numbers) == 1 else None
    length = first if first is not None else agreed
    return UNTIL_EOF if length is None or length < 0 else min(length, _MAX_LENGTH)


def _whole_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
