"""Follows redirects by the rules of `requests`; only called for responses with a 3xx status, which are rare."""

from __future__ import annotations

import http.client
import io
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import requests
from requests.cookies import RequestsCookieJar
from requests.exceptions import RequestException
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict

from loadgen.engine.errors import AppError
from loadgen.engine.http import prepared, tls
from loadgen.engine.http.wire_request import WireRequest
from loadgen.protocol.request_ids import id_end


class RedirectError(Exception):
    """A redirect cannot be followed: there were too many, or its target is not an HTTP URL."""


class Hop(NamedTuple):
    """The target of a redirect; the request id there is the arrival's with another end (request_ids.id_end)."""

    host: str  # as in a routing record, always with a port
    wire: WireRequest


@lru_cache(maxsize=1)
def _session() -> requests.Session:
    return prepared.new_session()


def next_hop(wire: WireRequest, head: bytes, *, keeps_cookies: bool = True) -> Hop | None:
    """Returns the request that a response redirects to; None if it is not a redirect.

    Args:
        wire: the request; its `redirects` is not None.
        head: the complete head of the response.
        keeps_cookies: whether the next request has the cookies of this response, besides those of the keyword.

    Raises:
        RedirectError: the redirect cannot be followed.
    """
    state = wire.redirects
    assert state is not None
    request: Any = _request_of(wire)
    session = _session()
    try:
        response = _response_of(head, request)
        onward: Any = next(session.resolve_redirects(response, request, yield_requests=True), None)
        if onward is None:
            return None
        if state.hops >= session.max_redirects:
            raise RedirectError(f"more than {session.max_redirects} redirects")
        if not keeps_cookies:
            onward.headers.pop("Cookie", None)
            onward.prepare_cookies(request._cookies)
        if "Transfer-Encoding" in onward.headers:
            raise RedirectError("a body of unknown length cannot be sent again")
        lines, body = prepared.write(onward)
        url = urlsplit(onward.url)
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        if url.scheme == "https":
            tls.context(state.tls)
    except (RequestException, http.client.HTTPException, AppError, LookupError, ValueError, OSError) as error:
        raise RedirectError(f"{type(error).__name__}: {error}") from error
    hops, sent = state.hops + 1, wire.sent + 1
    _, line_break, id_line = wire.head.rpartition(b"\r\n") if wire.id_form else (b"", b"", b"")
    name = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return Hop(
        f"{name}:{port}",
        wire._replace(
            head="\r\n".join(lines).encode("latin-1") + line_break + id_line,
            tail=f"{id_end(wire.id_form, sent)}\r\n\r\n".encode() + body,
            bodiless=onward.method == "HEAD",
            redirects=replace(state, origin=f"{url.scheme}://{url.netloc}", hops=hops, cookies=onward._cookies),
            tls=state.tls if url.scheme == "https" else None,
            sent=sent,
        ),
    )


def _request_of(wire: WireRequest) -> requests.PreparedRequest:
    """Returns the request as an object of `requests`, made from its bytes."""
    state = wire.redirects
    assert state is not None
    head = wire.head.rpartition(b"\r\n")[0] if wire.id_form else wire.head
    request_line, *fields = head.decode("latin-1").split("\r\n")
    request = requests.PreparedRequest()
    request.method, target, _ = request_line.split(" ")
    request.url = state.origin + target
    request.headers = CaseInsensitiveDict(_field(line) for line in fields)
    if not state.own_host:
        del request.headers["Host"]
    request.body = wire.tail.partition(b"\r\n\r\n")[2] or None
    cast(Any, request)._cookies = state.cookies if state.cookies is not None else RequestsCookieJar()
    return request


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name, value


def _response_of(head: bytes, request: requests.PreparedRequest) -> requests.Response:
    lines = io.BytesIO(head)
    status = int(lines.readline().split(None, 2)[1])
    message = http.client.parse_headers(lines)  # as `requests` reads headers
    response = requests.Response()
    response.status_code = status
    response.headers = CaseInsensitiveDict(HTTPHeaderDict(message.items()))
    response.url = request.url or ""
    response.request = request
    response._content = b""
    response._content_consumed = True  # type: ignore[attr-defined]
    # `requests` reads the cookies from here.
    response.raw = SimpleNamespace(_original_response=SimpleNamespace(msg=message))
    return response
