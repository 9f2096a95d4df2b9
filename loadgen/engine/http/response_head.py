"""ResponseReader: reads a response's head and body. KnownHeads: remembers parsed heads."""

from __future__ import annotations

from typing import Final

import httptools

END_OF_HEAD: Final = b"\r\n\r\n"
MAX_HEAD_BYTES: Final = 64 << 10
_LONGEST_KNOWN_HEAD: Final = 4096
_MAX_KNOWN_HEADS: Final = 256
# For servers whose heads are all different: not each of them may be parsed a second time.
_LEARNED_PER_TICK: Final = 4

# A head's status, whether the connection is kept alive, and the length of the body.
KnownHead = tuple[int, bool, int]


class ResponseReader:
    """Reads the last message in `data` that is not an interim response (1xx, but 101); it may be incomplete.

    Bytes that are not HTTP end the reading without an error: the connection's own parser has rejected them before.

    Attributes:
        status: HTTP status, 0 if no head is complete.
        version: of HTTP, as text.
        fields: names and values of the headers, in order.
        keeps_alive: whether the connection stays open after the response, by the parser.
        body: the part that `data` has, without transfer coding.
        heads: how many heads are complete, interim ones included.
        failed: whether the parser refused the data, or found a protocol upgrade.
    """

    def __init__(self, data: bytes) -> None:
        self.status = 0
        self.version = ""
        self.fields: list[tuple[str, str]] = []
        self.keeps_alive = False
        self.body = bytearray()
        self.heads = 0
        self.failed = False
        self._is_final = False
        self._is_complete = False
        self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.failed = True
        finally:
            del self._parser  # it refers to the methods of this object: a cycle

    # --- Called by the parser

    def on_message_begin(self) -> None:
        if not self._is_final:
            self.fields.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_final:
            self.fields.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self._is_final:
            return
        self.heads += 1
        self.status = self._parser.get_status_code()
        self.version = self._parser.get_http_version()
        self.keeps_alive = self._parser.should_keep_alive()
        self._is_final = self.status >= 200 or self.status == 101

    def on_body(self, body: bytes) -> None:
        if self._is_final and not self._is_complete:
            self.body += body

    def on_message_complete(self) -> None:
        self._is_complete = self._is_final

    # --- Derived from the headers

    def values(self, name: str) -> list[str]:
        """Returns the values of all headers of a name (given in lower case)."""
        return [value for field, value in self.fields if field.lower() == name]

    def ends_with_connection(self) -> bool:
        """Returns whether the body, having neither a length nor chunks, ends with the connection."""
        codings = self.values("transfer-encoding")
        is_chunked = any(value.lower().rstrip().endswith("chunked") for value in codings)
        return not (is_chunked or self.values("content-length"))

    def keeps_alive_without_body(self) -> bool:
        """Returns whether the connection stays open after a response without a body, despite a length in its head."""
        tokens = [token.strip().lower() for value in self.values("connection")[-1:] for token in value.split(",")]
        return "close" not in tokens if self.version == "1.1" else "keep-alive" in tokens


def may_redirect(status: int) -> bool:
    """Returns whether a response of this status may be a redirect, for which its head is needed."""
    return 300 < status < 400 and status != 304


def final_head(data: bytes) -> tuple[int, int]:
    """Returns where the head of a message begins and ends, without the interim heads (1xx) before it.

    The end is that of the data if the head is incomplete.
    """
    end = 0
    while True:
        begin, end = end, data.find(END_OF_HEAD, end) + len(END_OF_HEAD)
        if end < len(END_OF_HEAD):
            return begin, len(data)
        if not (data.startswith(b"HTTP/", begin) and data[begin + 9 : begin + 10] == b"1"):
            return begin, end


class KnownHeads:
    """Remembers parsed heads, as a look-up costs a tenth of parsing one.

    A server repeats its heads until the second of their `Date` is over, at high rates thousands of times. The keys of
    `heads` are the exact bytes that the parser accepted, and only heads with the length of the body are kept.
    """

    __slots__ = ("_budget", "heads")

    def __init__(self) -> None:
        self.heads: dict[bytes, KnownHead] = {}
        self._budget = _LEARNED_PER_TICK

    def tick(self) -> None:
        """Allows a few more heads to be learned; to be called every few milliseconds."""
        self._budget = _LEARNED_PER_TICK

    def learn(self, data: bytes) -> None:
        """Remembers the head at the beginning of `data`."""
        head = data[: data.find(END_OF_HEAD) + len(END_OF_HEAD)]
        if not (self._budget and len(END_OF_HEAD) < len(head) <= _LONGEST_KNOWN_HEAD) or head in self.heads:
            return
        self._budget -= 1
        known = _known_head(head)
        if known is not None:
            if len(self.heads) >= _MAX_KNOWN_HEADS:
                self.heads.clear()
            self.heads[head] = known


def _known_head(head: bytes) -> KnownHead | None:
    """Returns None for a head whose responses need the parser, and for bytes that are not a head."""
    reader = ResponseReader(head)
    status, lengths = reader.status, reader.values("content-length")
    if reader.failed or reader.heads != 1 or status < 200 or may_redirect(status):
        return None
    if reader.values("transfer-encoding") or reader.values("upgrade"):
        return None
    if status in (204, 304):
        return status, reader.keeps_alive, 0
    try:
        return (status, reader.keeps_alive, int(lengths[-1])) if lengths else None
    except ValueError:
        return None
