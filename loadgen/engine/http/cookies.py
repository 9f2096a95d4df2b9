"""CookieJars: the cookies of each emulated client. CookieConnection: keeps and sends them, for `cookies: keep`.

The connection is a class of its own, so that other workloads do not pay for it. The rules are those of `requests`
(http.cookiejar), except that all nodes of the service count as one host: a client that has logged in at one node is
logged in at the others, as behind a load balancer.
"""

from __future__ import annotations

import http.client
import io
import math
import re
import time
from collections.abc import Collection
from functools import lru_cache
from http.cookiejar import Cookie, DefaultCookiePolicy
from types import SimpleNamespace
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

from requests.cookies import MockRequest, MockResponse, RequestsCookieJar

from loadgen.engine.http.capture import CapturingConnection, CapturingHost, CapturingPool
from loadgen.engine.http.redirects import Hop, next_hop
from loadgen.engine.http.response.head import MAX_HEAD_BYTES, final_head
from loadgen.engine.http.wire_request import FirstRequest, WireRequest
from loadgen.engine.routes import host_name
from loadgen.protocol.outcomes import MalformedReason, Outcome

# Of one client; the least that a browser should keep of a domain (RFC 6265, 6.1). http.cookiejar has no limit.
MAX_COOKIES: Final = 50
MAX_COOKIE_BYTES: Final = 4096  # of a name and its value together
# Of the requests that a client has sent since its cookies changed, these are made again without http.cookiejar.
_MADE_HEADS: Final = 4
# If all cookies of a client are for the whole site, as most are, all requests to one host get the same ones.
_MADE_FIELDS: Final = 4
_MADE_HEAD_BYTES: Final = 2048

# The host of all nodes of the service. No real host has such a name (RFC 6761, 6.4), and no `Domain` matches it.
_SERVICE: Final = "service.invalid"
_SET_COOKIE: Final = re.compile(rb"\nset-cookie[ \t]*:", re.IGNORECASE)
_HOST: Final = re.compile(rb"\r\nhost: ([^\r\n]*)", re.IGNORECASE)
_OWN_COOKIES: Final = re.compile(rb"\r\ncookie: ([^\r\n]*)", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ENDS_OF_HEADS: Final = (b"\n\r\n", b"\n\n")


class _Request(MockRequest):
    """A request as http.cookiejar needs it.

    Attributes:
        to_host: the request with the real name of its host; `get_full_url` has that of the service for its nodes.
    """

    def __init__(self, scheme: str, host: str, target: str, *, is_node: bool) -> None:
        url = f"{scheme}://{_SERVICE if is_node else host}{target}"
        super().__init__(cast(Any, SimpleNamespace(url=url, headers={})))
        self.to_host = _Request(scheme, host, target, is_node=False) if is_node and host else self


class _Policy(DefaultCookiePolicy):
    """The rules of `requests` for cookies without `Domain`, which belong to the service, and for those with one."""

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        text = f"{cookie.name}={cookie.value or ''}"
        return len(text) <= MAX_COOKIE_BYTES and not _CONTROL.search(text) and super().set_ok(cookie, request)

    def set_ok_domain(self, cookie: Cookie, request: Any) -> bool:
        return super().set_ok_domain(cookie, request.to_host if cookie.domain_specified else request)

    def domain_return_ok(self, domain: str, request: Any) -> bool:
        return super().domain_return_ok(domain, request) or super().domain_return_ok(domain, request.to_host)

    def return_ok_domain(self, cookie: Cookie, request: Any) -> bool:
        return super().return_ok_domain(cookie, request.to_host if cookie.domain_specified else request)


class _Jar(RequestsCookieJar):
    """The cookies of one client: at most MAX_COOKIES, of which the one that was set longest ago is dropped first.

    Attributes:
        made_heads: heads of requests with cookies, by their heads without.
        made_fields: values of the header by the host and the scheme; None: no cookie is for that host.
        is_rooted: whether all cookies have the path `/`, so that the path of a request does not matter.
        expires_s: when the first cookie expires, in seconds since the Unix epoch.
    """

    def __init__(self, policy: _Policy) -> None:
        super().__init__(policy)
        self.made_heads: dict[Any, bytes] = {}
        self.made_fields: dict[Any, str | None] = {}
        self.is_rooted = True
        self.expires_s = 0.0
        self._by_age: dict[tuple[str, str, str], None] = {}

    def changed(self) -> None:
        self.made_heads.clear()
        self.made_fields.clear()
        self.is_rooted = all(cookie.path == "/" for cookie in self)
        self.expires_s = min((cookie.expires for cookie in self if cookie.expires is not None), default=math.inf)

    def set_cookie(self, cookie: Cookie, *args: Any, **kwargs: Any) -> None:
        super().set_cookie(cookie, *args, **kwargs)
        key = cookie.domain, cookie.path, cookie.name
        self._by_age.pop(key, None)
        self._by_age[key] = None
        if len(self._by_age) > MAX_COOKIES:
            self.clear(*next(iter(self._by_age)))

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        """Removes a cookie. Raises KeyError if it does not exist. The callers here, and http.cookiejar's, name one."""
        super().clear(domain, path, name)
        # The parent keeps dictionaries that have become empty: one for each path that ever had a cookie.
        domains = cast(Any, self)._cookies
        paths = domains.get(domain, {})
        if not paths.get(path, True):
            del paths[path]
        if not paths:
            domains.pop(domain, None)
        self._by_age.pop(cast("tuple[str, str, str]", (domain, path, name)), None)


class CookieJars:
    """The jars of a shard's clients; a client without cookies has none.

    Memory grows with the clients that were sent cookies, at most MAX_COOKIES * MAX_COOKIE_BYTES for each.

    Args:
        nodes: the names, without ports, of the service's hosts; may grow.
    """

    def __init__(self, nodes: Collection[str]) -> None:
        self._nodes = nodes
        self._policy = _Policy()
        self._jars: dict[int, _Jar] = {}

    def store(self, client: int, wire: WireRequest, head: bytes) -> None:
        """Stores, and deletes, the cookies that a response sets.

        Args:
            wire: the request.
            head: the complete head of the response.
        """
        if _SET_COOKIE.search(head) is None:
            return
        lines = io.BytesIO(head)
        lines.readline()
        message = http.client.parse_headers(lines)  # as `requests` reads headers
        jar = self._jars.get(client) or _Jar(self._policy)
        jar.extract_cookies(cast(Any, MockResponse(message)), cast(Any, self._request(wire)))
        if len(jar):
            jar.changed()
            self._jars[client] = jar
        else:
            self._jars.pop(client, None)

    def applied(self, client: int, wire: WireRequest) -> WireRequest:
        """Returns the request with the client's cookies.

        Cookies that the request has already are its own, set by the app or the plan; they replace those of the same
        name.
        """
        jar = self._jars.get(client)
        if jar is None:
            return wire
        key = wire.head, wire.tls is None, len(self._nodes)
        if time.time() >= jar.expires_s:
            jar.clear_expired_cookies()
            jar.changed()
        head = jar.made_heads.get(key)
        if head is None:
            head = self._head(jar, wire)
            if len(head) <= _MADE_HEAD_BYTES:
                if len(jar.made_heads) >= _MADE_HEADS:
                    jar.made_heads.clear()
                jar.made_heads[key] = head
        return wire._replace(head=head)

    def _head(self, jar: _Jar, wire: WireRequest) -> bytes:
        host = _HOST.search(wire.head)
        key = None if host is None else host[1], wire.tls is None, len(self._nodes)
        if key in jar.made_fields:
            kept = jar.made_fields[key]
        else:
            kept = self._field(jar, wire)
            if jar.is_rooted and len(kept or "") <= _MADE_HEAD_BYTES:
                if len(jar.made_fields) >= _MADE_FIELDS:
                    jar.made_fields.clear()
                jar.made_fields[key] = kept
        return wire.head if kept is None else _with_cookies(wire, kept)

    def _field(self, jar: _Jar, wire: WireRequest) -> str | None:
        """Returns the jar's cookies for a request, in the form of the header; None if there are none for it."""
        request: Any = self._request(wire)
        jar.add_cookie_header(request)
        kept: str | None = request.get_new_headers().get("Cookie")
        return kept

    def keep(self, clients: Collection[int]) -> None:
        """Drops the jars of all clients but these."""
        for client in self._jars.keys() - set(clients):
            del self._jars[client]

    def _request(self, wire: WireRequest) -> _Request:
        request_line = wire.head[: wire.head.index(b"\r\n")]
        target = request_line.split(b" ")[1].decode("latin-1")
        field = _HOST.search(wire.head)
        host = _usable_name(field[1]) if field is not None else ""
        scheme = "http" if wire.tls is None else "https"
        return _Request(scheme, host, target, is_node=not host or host in self._nodes)

    def __len__(self) -> int:
        return len(self._jars)


@lru_cache(maxsize=256)
def _usable_name(host: bytes) -> str:
    """Returns the name in a Host header, which may be the app's own; an empty string if no URL can have that."""
    try:
        name = host_name(host.decode("ascii").strip())
        return name if urlsplit(f"//{name}/").hostname and not set(name) & set(" /?#@\\") else ""
    except ValueError:
        return ""


def _with_cookies(wire: WireRequest, kept: str) -> bytes:
    """Returns the head of a request with these cookies, in the form of the header, besides its own."""
    fields, line_break, id_line = wire.head.rpartition(b"\r\n") if wire.id_form else (wire.head, b"", b"")
    own = _OWN_COOKIES.search(fields)
    if own is not None:
        fields = fields[: own.start()] + fields[own.end() :]
        pairs = own[1].decode("latin-1").split(";")
        names = {_name(pair) for pair in pairs}
        others = [pair for pair in kept.split("; ") if _name(pair) not in names]
        kept = "; ".join([*filter(None, map(str.strip, pairs)), *others])
    return b"%b\r\nCookie: %b%b%b" % (fields, kept.encode("latin-1"), line_break, id_line)


def _name(pair: str) -> str:
    return pair.partition("=")[0].strip()


class CookiePool(CapturingPool, Protocol):
    """The part of a Pool that its connections use here."""

    cookies: CookieJars | None


class CookieHost(CapturingHost, Protocol):
    """The part of a HostPool that its connections use here."""

    @property
    def pool(self) -> CookiePool: ...


class CookieConnection(CapturingConnection):
    """Sends the cookies of a request's client, and stores those of the response."""

    __slots__ = ("_cookies",)

    def __init__(self, host: CookieHost) -> None:
        super().__init__(host)
        assert host.pool.cookies is not None
        self._cookies = host.pool.cookies

    def load(
        self,
        intended_ns: int,
        client: int,
        sequence: int,
        version: int,
        wire: WireRequest,
        first: FirstRequest | None = None,
    ) -> bytes:
        applied = self._cookies.applied(client, wire)
        data = super().load(intended_ns, client, sequence, version, applied, first)
        self._wire = wire  # a redirect, or a second sending, gets the cookies of its own time
        return data

    def _hop(self, head: bytes) -> Hop | None:
        self._cookies.store(self._client, self._wire, head)
        return next_hop(self._wire, head, keeps_cookies=False)

    def _end(self, outcome: int, done_ns: int, status: int) -> None:
        # `requests` has stored the cookies, too, when the body is not received.
        if outcome != Outcome.MALFORMED or self._reason == MalformedReason.CHUNK:
            received = bytes(self._response[:MAX_HEAD_BYTES])
            begin, end = final_head(received)
            head = received[begin:end]
            if head.endswith(_ENDS_OF_HEADS):
                self._cookies.store(self._client, self._wire, head)
        super()._end(outcome, done_ns, status)
