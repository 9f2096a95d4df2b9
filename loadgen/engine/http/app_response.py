"""AppResponse: a response as it is passed to a client app."""

from __future__ import annotations

import contextlib
import json
import zlib
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict

from loadgen.engine.http.response_head import ResponseReader

# Of a response as received, its head included; the rest is received and counted, but not kept. Each request in flight
# may need this much memory: 1 GiB for a thousand requests.
MAX_RESPONSE_BYTES: Final = 1 << 20
# Of a decompressed body, of which one exists at a time; a small response can decompress to any size.
MAX_BODY_BYTES: Final = 16 << 20


class AppResponse:
    """A complete response; after redirects, the last one.

    Attributes:
        status: the HTTP status.
        headers: as `requests` has them: names in any case, several of one name joined by a comma.
        cookies: from the response's own Set-Cookie headers, by name; a request sends them with the keyword `cookies`.
        body: bytes, decompressed if they were gzip or deflate.
        truncated: MAX_RESPONSE_BYTES or MAX_BODY_BYTES was reached, and the body may be incomplete.
    """

    __slots__ = ("body", "cookies", "headers", "status", "truncated")

    def __init__(self, status: int, data: bytes) -> None:
        reader = ResponseReader(data)
        self.status = status
        self.headers: CaseInsensitiveDict[str] = CaseInsensitiveDict(HTTPHeaderDict(reader.fields))
        self.cookies = _cookies(reader.fields)
        self.body = _decoded(bytes(reader.body), self.headers.get("Content-Encoding", ""))
        self.truncated = len(data) >= MAX_RESPONSE_BYTES or len(self.body) >= MAX_BODY_BYTES

    @property
    def text(self) -> str:
        """The body as UTF-8; invalid bytes are replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Returns the body decoded from JSON. Raises ValueError if it is not valid JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<AppResponse {self.status}, {len(self.body)} bytes>"


def _cookies(fields: list[tuple[str, str]]) -> dict[str, str]:
    found = {}
    for name, value in fields:
        if name.lower() == "set-cookie":
            with contextlib.suppress(CookieError):
                found.update({key: morsel.value for key, morsel in SimpleCookie(value).items()})
    return found


def _decoded(body: bytes, coding: str) -> bytes:
    """Returns the body decompressed; unchanged if it has another content coding, or is damaged."""
    kinds = {
        "gzip": (16 + zlib.MAX_WBITS,),
        "x-gzip": (16 + zlib.MAX_WBITS,),
        "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),
    }
    for window_bits in kinds.get(coding.strip().lower(), ()):
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(window_bits).decompress(body, MAX_BODY_BYTES)
    return body
