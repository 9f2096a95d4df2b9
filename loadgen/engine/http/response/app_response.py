"""AppResponse: a response as it is passed to a client app."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
from typing import Any, Final, cast

import requests
import urllib3
from requests.cookies import MockRequest, MockResponse, RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import DecodeError

from loadgen.engine.http.response.chunked_body import ChunkedBody
from loadgen.engine.http.response.head import CHUNKED, MalformedError, final_head, read_head

# Of a response as received, its head included; the rest is received and counted, but not kept. Each request in flight
# may need this much memory: 1 GiB for a thousand requests.
MAX_RESPONSE_BYTES: Final = 1 << 20
# Of a decompressed body, of which one exists at a time; a small response can decompress to any size.
MAX_BODY_BYTES: Final = 16 << 20
_PIECE_BYTES: Final = 1 << 16


class AppResponse:
    """A complete response; after redirects, the last one. Its parts are read when the app asks for them.

    Attributes:
        status: the HTTP status.

    Args:
        data: the response as received.
        history: the heads of the responses that redirected to it, oldest first.
    """

    __slots__ = ("_body", "_data", "_fields", "_history", "status")

    def __init__(self, status: int, data: bytes, history: tuple[bytes, ...] = ()) -> None:
        self.status = status
        self._history = history
        self._data = data
        self._fields: http.client.HTTPMessage | None = None
        self._body: bytes | None = None

    @property
    def headers(self) -> CaseInsensitiveDict[str]:
        """As `requests` has them: names in any case, several of one name joined by a comma."""
        return CaseInsensitiveDict(HTTPHeaderDict(self._message().items()))

    @property
    def history(self) -> list[AppResponse]:
        """The responses that redirected to this one, oldest first, without their bodies."""
        return [AppResponse(read_head(head).status, head) for head in self._history]

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that this response and its history set, by name, as the jar of `requests` reads them.

        One that a header deletes (`Max-Age=0`) is not among them. A request sends them with the keyword `cookies`.
        """
        messages = [response._message() for response in (*self.history, self)]
        if not any("Set-Cookie" in message for message in messages):
            return {}
        # The domain is not compared: the targets of a load often have other names than the site has.
        request: Any = MockRequest(requests.Request("GET", "http://target/"))
        jar = RequestsCookieJar()
        for message in messages:
            for cookie in jar.make_cookies(cast(Any, MockResponse(message)), request):
                jar.set_cookie(cookie)
        return {cookie.name: cookie.value or "" for cookie in jar}

    @property
    def body(self) -> bytes:
        """The body, decompressed as `requests` does; as it was received if its coding is unknown, or damaged."""
        if self._body is None:
            self._body = self._read_body()
        return self._body

    @property
    def truncated(self) -> bool:
        """Whether MAX_RESPONSE_BYTES or MAX_BODY_BYTES was reached, so that the body may lack its end."""
        return len(self.body) >= MAX_BODY_BYTES or len(self._data) >= MAX_RESPONSE_BYTES

    @property
    def text(self) -> str:
        """The body as UTF-8; invalid bytes are replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Returns the body decoded from JSON. Raises ValueError if it is not valid JSON."""
        return json.loads(self.body)

    def _message(self) -> http.client.HTTPMessage:
        if self._fields is None:
            begin, end = final_head(self._data)
            lines = io.BytesIO(self._data[begin:end])
            lines.readline()
            self._fields = http.client.parse_headers(lines)
        return self._fields

    def _read_body(self) -> bytes:
        begin, end = final_head(self._data)
        length, body = read_head(self._data[begin:end]).length, self._data[end:]
        if length == CHUNKED:
            content = bytearray()
            with contextlib.suppress(MalformedError):  # the end is missing in the part that was kept
                ChunkedBody(content).feed(body, 0)
            body = bytes(content)
        elif length >= 0:
            body = body[:length]
        codings = self._message().get_all("Content-Encoding")
        if codings is None:
            return body
        try:
            return _decoded(body, ", ".join(codings))
        except DecodeError:
            return body

    def __repr__(self) -> str:
        return f"<AppResponse {self.status}, {len(self.body)} bytes>"


def _decoded(body: bytes, coding: str) -> bytes:
    """Returns at most MAX_BODY_BYTES of a decompressed body. Raises DecodeError."""
    response = urllib3.HTTPResponse(io.BytesIO(body), {"Content-Encoding": coding}, 200, preload_content=False)
    decoded = bytearray()
    for piece in response.stream(_PIECE_BYTES, decode_content=True):
        decoded += piece
        if len(decoded) >= MAX_BODY_BYTES:
            break
    return bytes(decoded[:MAX_BODY_BYTES])
