"""What a client app is told of a response."""

from __future__ import annotations

import contextlib
import json
import zlib
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

import httptools
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict

# Of a response as it is sent, its head included; the rest is received and counted, but not kept. Each request in flight
# may hold as much, so it is the memory of a shard that sets it: 1 GiB for a thousand of them.
MAX_HEARD_BYTES: Final = 1 << 20
# Of a body that is unpacked. There is one at a time, so it may be larger; but a small response can unpack to anything.
MAX_BODY_BYTES: Final = 16 << 20


class AppResponse:
    """A complete response; of an arrival that followed redirects, the last one.

    Attributes:
        status: the HTTP status.
        headers: as `requests` has them: names in any case, several of one name joined by a comma.
        cookies: names and values of the response's own Set-Cookie headers; to be sent again by `cookies` of a request.
        body: bytes, with a gzip or deflate coding undone.
        truncated: one of the limits was reached, MAX_HEARD_BYTES or MAX_BODY_BYTES, and the body may not be whole.
    """

    __slots__ = ("body", "cookies", "headers", "status", "truncated")

    def __init__(self, status: int, data: bytes) -> None:
        reader = _Reader()
        reader.read(data)
        self.status = status
        self.headers: CaseInsensitiveDict[str] = CaseInsensitiveDict(HTTPHeaderDict(reader.fields))
        self.cookies = _cookies(reader.fields)
        self.body = _decoded(bytes(reader.body), self.headers.get("Content-Encoding", ""))
        self.truncated = len(data) >= MAX_HEARD_BYTES or len(self.body) >= MAX_BODY_BYTES

    @property
    def text(self) -> str:
        """The body as UTF-8; what is none is replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Raises ValueError for a body that is no JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<AppResponse {self.status}, {len(self.body)} bytes>"


class _Reader:
    """Head and body of the last message in some bytes that is not an interim one (1xx)."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.body = bytearray()
        self._is_final = False
        self._is_complete = False
        self._parser: httptools.HttpResponseParser | None = None

    def read(self, data: bytes) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # The connection's parser has taken it already; what lies behind the message does not matter.
        with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._parser.feed_data(data)
        self._parser = None  # it holds our methods: a cycle

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_final:
            self.fields.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status >= 200 or status == 101:
            self._is_final = True
        else:
            self.fields.clear()

    def on_body(self, body: bytes) -> None:
        if not self._is_complete:
            self.body += body

    def on_message_complete(self) -> None:
        self._is_complete = self._is_final


def _cookies(fields: list[tuple[str, str]]) -> dict[str, str]:
    found = {}
    for name, value in fields:
        if name.lower() == "set-cookie":
            with contextlib.suppress(CookieError):
                found.update({key: morsel.value for key, morsel in SimpleCookie(value).items()})
    return found


def _decoded(body: bytes, coding: str) -> bytes:
    """The body without its content coding, if it is one that we ask for; else, or when it is damaged, as it came."""
    kinds = {
        "gzip": (16 + zlib.MAX_WBITS,),
        "x-gzip": (16 + zlib.MAX_WBITS,),
        "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),
    }
    for window_bits in kinds.get(coding.strip().lower(), ()):
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(window_bits).decompress(body, MAX_BODY_BYTES)
    return body
