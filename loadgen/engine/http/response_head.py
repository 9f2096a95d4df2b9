"""Remembers how responses with a known head are framed: a server repeats its heads, at high rates thousands of times
until the second of their `Date` is over, and a look into a dictionary costs a tenth of what parsing one does."""

from __future__ import annotations

from typing import Final

import httptools

# A head's status, whether the connection lives on, and the length of the body.
Framing = tuple[int, bool, int]

END_OF_HEAD: Final = b"\r\n\r\n"
_LONGEST_HEAD: Final = 4096
_MOST_HEADS: Final = 256
# Servers whose heads are all different must not cost a second parse each.
_LEARNED_PER_TICK: Final = 4


class Heads:
    """`known` maps the bytes of a head to its framing; only heads whose body's length is in them are in it.

    A head is in it as the very bytes that the parser accepted: what is looked up is what would be parsed.
    """

    __slots__ = ("_budget", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, Framing] = {}
        self._budget = _LEARNED_PER_TICK

    def tick(self) -> None:
        """To be called every few milliseconds: a few more heads may be learned."""
        self._budget = _LEARNED_PER_TICK

    def learn(self, data: bytes) -> None:
        """Remembers the head that `data`, the beginning of a response, starts with."""
        head = data[: data.find(END_OF_HEAD) + len(END_OF_HEAD)]
        if not (self._budget and len(END_OF_HEAD) < len(head) <= _LONGEST_HEAD) or head in self.known:
            return
        self._budget -= 1
        framing = _framing_of(head)
        if framing is not None:
            if len(self.known) >= _MOST_HEADS:
                self.known.clear()
            self.known[head] = framing


class _Reader:
    """Collects what matters of one head."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.length: int | None = None
        self.encoded = False
        self.keep = False
        self.heads = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self.length = int(value)
        elif name in (b"transfer-encoding", b"upgrade"):
            self.encoded = True

    def on_headers_complete(self) -> None:
        self.heads += 1
        self.keep = self.parser.should_keep_alive()


def may_redirect(status: int) -> bool:
    """Whether a response of this status may have to be followed, for which its head is needed."""
    return 300 < status < 400 and status != 304


def _framing_of(head: bytes) -> Framing | None:
    """None for a head that needs the parser's attention each time, and for what is none."""
    reader = _Reader()
    try:
        reader.parser.feed_data(head)
        status = reader.parser.get_status_code()
    except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError):
        return None
    finally:
        del reader.parser  # it holds the reader's methods: a cycle
    if reader.heads != 1 or reader.encoded or status < 200 or may_redirect(status):
        return None
    if status in (204, 304):
        return status, reader.keep, 0
    return None if reader.length is None else (status, reader.keep, reader.length)
