"""Turns method, endpoint and the keywords of `requests.request` into the bytes of a request."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from loadgen.engine.errors import AppError

SUPPORTED = ("params", "data", "json", "files", "headers", "cookies", "auth", "timeout")
# Keywords that change nothing when they have the value that the engine works by.
_HARMLESS: dict[str, Any] = {
    "allow_redirects": False,
    "stream": False,
    "verify": True,
    "proxies": None,
    "cert": None,
    "hooks": None,
}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
USER_AGENT = "galileo"

_CACHE_ENTRIES = 1024
_CACHE_BYTES = 16 << 20
_LONGEST_KEY = 256  # values in a key; taking apart more than that costs about as much as preparing anew


@dataclass(frozen=True, slots=True)
class Wire:
    """A request's bytes for one host: `head` ends where the client and sequence number of the request id belong."""

    head: bytes
    tail: bytes
    timeout_ns: int
    bodiless: bool  # no body follows the response's head, whatever the head says (HEAD)


class Preparer:
    """Prepares requests as a `requests.Session` without anything from its environment does.

    Equal requests are prepared once. Requests are compared by value, so an app may change a dictionary and return it
    again; one with anything else than plain data in it (an open file, an auth object) is prepared each time.

    Args:
        id_header: name of the header that carries the request id.
        id_prefix: the part of the id that all requests share.
        timeout_s: time-out of requests without a `timeout` of their own.
    """

    def __init__(self, id_header: str, id_prefix: str, timeout_s: float) -> None:
        self._id_header = id_header
        self._id_line = f"{id_header}: {id_prefix}".encode("latin-1")
        self._timeout_ns = round(timeout_s * 1e9)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["User-Agent"] = USER_AGENT
        self._cache: OrderedDict[Any, Wire] = OrderedDict()
        self._cache_bytes = 0

    def wire(self, base_url: str, method: Any, endpoint: Any, kwargs: Any) -> Wire:
        """The bytes of a request.

        Raises:
            AppError: naming what is wrong with method, endpoint or a keyword.
        """
        key = _key((base_url, method, endpoint, kwargs))
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

    def _prepare(self, base_url: str, method: Any, endpoint: Any, kwargs: Any) -> Wire:
        method, endpoint, kwargs = _checked(method, endpoint, kwargs)
        timeout_ns = _timeout_ns(kwargs.pop("timeout", None), self._timeout_ns)
        try:
            prepared = self._session.prepare_request(requests.Request(method, base_url + endpoint, **kwargs))
            body = _body(prepared.body)
            if hasattr(prepared.body, "read"):
                # What was read counts, not what `requests` guessed from the file's position and size.
                prepared.headers.pop("Transfer-Encoding", None)
                prepared.headers["Content-Length"] = str(len(body))
            if prepared.hooks.get("response"):
                raise AppError("auth: a kind that answers the server's challenge is not supported")
            head = self._head(prepared)
        except AppError:
            raise
        except Exception as error:  # whatever `requests` or an auth object of the app objects to
            raise AppError(f"the request cannot be prepared: {type(error).__name__}: {error}") from error
        return Wire(head, b"\r\n\r\n" + body, timeout_ns, prepared.method == "HEAD")

    def _head(self, prepared: requests.PreparedRequest) -> bytes:
        assert prepared.url is not None
        headers: dict[str, str | bytes] = {**prepared.headers}
        names = {name.lower(): name for name in headers}
        own_host = headers.pop(names["host"]) if "host" in names else prepared.url.split("/", 3)[2]
        if self._id_header.lower() in names:
            del headers[names[self._id_header.lower()]]
        lines = [f"{prepared.method} {prepared.path_url} HTTP/1.1".encode("ascii"), b"Host: " + _octets(own_host)]
        lines += [_octets(name) + b": " + _octets(value) for name, value in headers.items()]
        return b"\r\n".join([*lines, self._id_line])


def _checked(method: Any, endpoint: Any, kwargs: Any) -> tuple[str, str, dict[str, Any]]:
    """Method, endpoint and the keywords that `requests.Request` takes (and `timeout`)."""
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        raise AppError(f"method: the name of an HTTP method is needed, not {method!r:.80}")
    if method.upper() == "CONNECT":
        raise AppError("method: CONNECT is not supported")
    if not isinstance(endpoint, str) or _URL_SCHEME.match(endpoint):
        raise AppError(f"endpoint: a path on the service is needed, not {endpoint!r:.80}")
    if not isinstance(kwargs, Mapping):
        raise AppError(f"keywords: a dictionary is needed, not {kwargs!r:.80}")
    for name, value in kwargs.items():
        if name in SUPPORTED:
            continue
        if name not in _HARMLESS:
            raise AppError(f"{name}: not a keyword of requests.request that is supported ({', '.join(SUPPORTED)})")
        if value != _HARMLESS[name]:
            raise AppError(f"{name}: only {_HARMLESS[name]!r} is supported, not {value!r:.80}")
    path = endpoint if endpoint.startswith("/") else f"/{endpoint}"
    chosen = {name: value for name, value in kwargs.items() if name in SUPPORTED}
    if isinstance(chosen.get("auth"), list):  # JSON has no tuples
        chosen["auth"] = tuple(chosen["auth"])
    return method, path, chosen


def _timeout_ns(value: Any, default_ns: int) -> int:
    if value is None:
        return default_ns
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise AppError(f"timeout: a number of seconds above 0 is needed, not {value!r:.80}")
    return round(value * 1e9)


def _body(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray)):
        return bytes(body)
    if hasattr(body, "read"):
        content = body.read()
        return content.encode() if isinstance(content, str) else bytes(content)
    raise AppError(f"data: bytes, text, fields or a file are needed, not {type(body).__name__} (its length is unknown)")


def _octets(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def _size(wire: Wire) -> int:
    return len(wire.head) + len(wire.tail)


def _key(value: Any) -> tuple[Any, ...] | None:
    """The value as something hashable that equals another's key only if both are the same request; None if it is large
    or not plain data."""
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
