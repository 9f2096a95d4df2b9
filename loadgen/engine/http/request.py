"""Preparer: turns method, endpoint and the keywords of `requests.request` into the bytes of a request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any, cast
from urllib.parse import urlsplit

from requests import PreparedRequest

from loadgen.engine.errors import AppError
from loadgen.engine.http import prepared, tls
from loadgen.engine.http.templates import PlainRequests
from loadgen.engine.http.wire_request import RedirectState, WireRequest
from loadgen.protocol.request_ids import IDS_VERSION, id_begin, id_end, id_form

_CACHE_ENTRIES = 1024
_CACHE_BYTES = 16 << 20
_LONGEST_KEY = 256  # values in a key; a longer key costs about as much as preparing the request again


class Preparer:
    """Prepares requests as `requests.request` does, without anything from its environment.

    Plain requests are built from templates (templates.py). Of the others, equal ones are prepared once. They are
    compared by value, as an app may change a dictionary and return it again. A request that contains anything but plain
    data (an open file, an auth object) is prepared each time.

    Args:
        id_header: name of the header that carries the request id; empty for none.
        group_id: of the client group.
        timeout_s: time-out of requests without a `timeout` of their own.
        ids_version: of the request ids.
    """

    def __init__(self, id_header: str, group_id: str, timeout_s: float, ids_version: int = IDS_VERSION) -> None:
        self._id_name = id_header.lower()
        self._id_form = form = id_form(id_header, ids_version)
        self._id_line = f"\r\n{id_header}: {id_begin(form, group_id)}" if id_header else ""
        self._end_of_head = f"{id_end(form, 0)}\r\n\r\n".encode()
        self._timeout_s = timeout_s
        self._session = prepared.new_session()
        self._plain = PlainRequests(self._id_name, self._id_line, self._end_of_head, self._prepare)
        self._cache: OrderedDict[Any, WireRequest] = OrderedDict()
        self._cache_bytes = 0

    def prepare(self, base_url: str, method: Any, endpoint: Any, kwargs: Any) -> WireRequest:
        """Returns the request's bytes and time-outs.

        Raises:
            AppError: method, endpoint or a keyword is invalid; the message names it.
        """
        wire = self._plain.request(base_url, method, endpoint, kwargs)
        if wire is not None:
            return wire
        key = value_key((base_url, method, endpoint, kwargs))
        if key is None:
            return self._prepare(base_url, method, endpoint, kwargs)
        wire = self._cache.get(key)
        if wire is None:
            wire = self._cache[key] = self._prepare(base_url, method, endpoint, kwargs)
            self._cache_bytes += _size(wire)
            while len(self._cache) > _CACHE_ENTRIES or self._cache_bytes > _CACHE_BYTES:
                self._cache_bytes -= _size(self._cache.popitem(last=False)[1])
        else:
            self._cache.move_to_end(key)
        return wire

    def _prepare(self, base_url: str, method: Any, endpoint: Any, kwargs: Any) -> WireRequest:
        call = prepared.check(method, endpoint, kwargs)
        request = prepared.prepare(self._session, base_url, call)
        lines, body = prepared.write(request)
        lines = [line for line in lines if prepared.header_name(line) != self._id_name]
        secure = base_url.startswith("https:")
        if secure:
            check_tls(call.tls)
        url = urlsplit(base_url)
        redirects = RedirectState(
            f"{url.scheme}://{url.netloc}", 0, _cookies(request), "Host" in request.headers, call.tls
        )
        return WireRequest(
            ("\r\n".join(lines) + self._id_line).encode("latin-1"),
            self._end_of_head + body,
            round((call.timeout_s or self._timeout_s) * 1e9),
            request.method == "HEAD",
            redirects if call.follow else None,
            call.tls if secure else None,
            call.connect_timeout_s,
            self._id_form,
        )


def check_tls(options: tls.TlsOptions) -> None:
    """Loads the files that the options name. Raises AppError if one cannot be used."""
    try:
        tls.context(options)
    except OSError as error:
        raise AppError(str(error)) from error


def _cookies(request: PreparedRequest) -> CookieJar | None:
    cookies: CookieJar | None = cast(Any, request)._cookies
    return cookies if cookies is not None and len(cookies) else None


def _size(wire: WireRequest) -> int:
    return len(wire.head) + len(wire.tail)


def value_key(value: Any) -> tuple[Any, ...] | None:
    """Returns a hashable key; None for large values, and for those that are not plain data.

    Two values have the same key only if they make the same request.
    """
    parts: list[Any] = []
    return tuple(parts) if _flatten(value, parts.append, parts) else None


def _flatten(value: Any, append: Callable[[Any], None], parts: list[Any]) -> bool:
    kind = type(value)
    if len(parts) >= _LONGEST_KEY:
        return False
    if kind is str or kind is bytes or value is None:
        append(value)
        return True
    if kind is int or kind is bool or kind is float:  # 1, True and 1.0 are equal, but not as text
        append((kind, repr(value)))
        return True
    if kind is dict:
        append((dict, len(value)))
        return all(_flatten(k, append, parts) and _flatten(v, append, parts) for k, v in value.items())
    if kind is list or kind is tuple:
        append((kind, len(value)))
        return all(_flatten(item, append, parts) for item in value)
    return False
