"""PlainRequests: builds plain requests, as most apps make them, from templates, in a few µs instead of 200.

A template is taken from the first request of a shape, as `requests` made it. A shape is the base URL, the method, the
names of the headers, the kind of body, and the values of all other keywords. Requests of one shape differ only in parts
that are copied, or encoded by the same function of the standard library: a path that needs no encoding, parameters,
values of headers, a body. A template that does not reproduce its request is never used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from requests import compat

from loadgen.engine.http.prepared import header_name
from loadgen.engine.http.wire_request import RedirectState, WireRequest
from loadgen.protocol.request_ids import IdForm

# Without escapes. Excluded are paths with an empty segment, or one that begins with a dot: `requests` resolves some.
_TARGET = re.compile(r"/[\w.~:@!$&'()*+,;=/-]*(?:\?[\w.~:@!$&'()*+,;=/-]+)?", re.ASCII)
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # of a header
_SCALARS = frozenset({str, int, float})
# Headers that `requests` or the engine handles specially.
_SPECIAL = frozenset({"host", "cookie", "content-length", "transfer-encoding"})
_LARGEST_BODY = 16384  # for larger ones, the cache is faster than a copy
_MAX_TEMPLATES = 512

Make = Callable[[str, str, str, dict[str, Any]], WireRequest]


@dataclass(frozen=True, slots=True)
class _Template:
    before: str  # the text before the endpoint
    after: str  # the text behind the target, without the headers that vary
    timeout_ns: int
    bodiless: bool
    redirects: RedirectState | None
    tls: Any
    connect_timeout_s: float | None
    id_form: IdForm


class PlainRequests:
    """Builds plain requests.

    Args:
        id_name: name of the header that carries the request id, in lower case.
        id_line: that header up to client and sequence, with the line break before it.
        end_of_head: the bytes between the sequence and the body.
        make: prepares a request in the slow way.
    """

    def __init__(self, id_name: str, id_line: str, end_of_head: bytes, make: Make) -> None:
        self._id_name = id_name
        self._id_line = id_line
        self._end_of_head = end_of_head
        self._make = make
        self._templates: dict[tuple[Any, ...], _Template | None] = {}
        # Of the JSON library that `requests` uses, which may not be the standard library's.
        self._encode_json: Callable[[Any], str] = cast(Any, compat).json.JSONEncoder(allow_nan=False).encode

    def request(self, base_url: str, method: Any, endpoint: Any, kwargs: Any) -> WireRequest | None:
        """Returns the request; None if it is not plain.

        Raises:
            AppError: it is plain, the first of its shape, and invalid.
        """
        if type(endpoint) is not str or type(method) is not str or type(kwargs) is not dict:
            return None
        if _TARGET.fullmatch(endpoint) is None or "//" in endpoint or "/." in endpoint:
            return None
        target, lines, body = endpoint, "", b""
        kind: Any = ""  # of body
        names: tuple[Any, ...] = ()
        fixed: tuple[Any, ...] = ()
        try:
            for name, value in kwargs.items():
                if name == "data":
                    if kind or not value:
                        return None
                    kind = type(value)
                    if kind is bytes:
                        body = value
                    elif kind is str:
                        body = value.encode()
                    elif kind is dict and _is_flat(value):
                        body = urlencode(value).encode()
                    else:
                        return None
                elif name == "json":
                    if kind or value is None:
                        return None
                    kind = name
                    body = self._encode_json(value).encode()
                elif name == "headers":
                    if type(value) is not dict:
                        return None
                    names = tuple(value)
                    for field, text in value.items():
                        if type(text) is not str or _VALUE.fullmatch(text) is None:
                            return None
                        lines += f"\r\n{field}: {text}"
                elif name == "params":
                    if type(value) is not dict or not value or not _is_flat(value):
                        return None
                    target += ("&" if "?" in endpoint else "?") + urlencode(value)
                else:
                    key = _fixed_key(value)
                    if key is None:
                        return None
                    fixed += (name, key)
        except (ValueError, TypeError, RecursionError):
            return None  # the error message of `requests` is better
        if len(body) > _LARGEST_BODY:
            return None
        shape = (base_url, method, kind, names, fixed)
        template = self._templates.get(shape)
        if template is None:
            if shape in self._templates:
                return None
            return self._first(shape, (base_url, method, endpoint, kwargs), target, lines, body)
        if kind:
            lines += f"\r\nContent-Length: {len(body)}"
        return WireRequest(
            f"{template.before}{target}{template.after}{lines}{self._id_line}".encode("latin-1"),
            self._end_of_head + body,
            template.timeout_ns,
            template.bodiless,
            template.redirects,
            template.tls,
            template.connect_timeout_s,
            template.id_form,
        )

    def _first(self, shape: tuple[Any, ...], request: Any, target: str, lines: str, body: bytes) -> WireRequest:
        """Returns the first request of a shape, from `requests`; keeps its template, or None if it has none."""
        wire = self._make(*request)
        if len(self._templates) >= _MAX_TEMPLATES:
            self._templates.clear()
        self._templates[shape] = self._template_of(shape, wire, target, lines, body)
        return wire

    def _template_of(
        self, shape: tuple[Any, ...], wire: WireRequest, target: str, lines: str, body: bytes
    ) -> _Template | None:
        _, _, kind, names, _ = shape
        own = {str(name).lower() for name in names}
        request_line, *fields = wire.head.decode("latin-1").removesuffix(self._id_line).split("\r\n")
        end = f"{target} HTTP/1.1"
        if own & (_SPECIAL | {self._id_name}) or not request_line.endswith(end):
            return None
        varying = own | {"content-length"} if kind else own
        after = "\r\n".join([" HTTP/1.1", *(field for field in fields if header_name(field) not in varying)])
        before = request_line.removesuffix(end)
        length = f"\r\nContent-Length: {len(body)}" if kind else ""
        built = f"{before}{target}{after}{lines}{length}".split("\r\n")
        if sorted(built) != sorted([request_line, *fields]) or wire.tail != self._end_of_head + body:
            return None
        return _Template(
            before,
            after,
            wire.timeout_ns,
            wire.bodiless,
            wire.redirects,
            wire.tls,
            wire.connect_timeout_s,
            wire.id_form,
        )


def _is_flat(fields: dict[Any, Any]) -> bool:
    """Returns whether `urlencode` alone encodes the fields as `requests` does."""
    return set(map(type, fields)) == {str} and _SCALARS.issuperset(map(type, fields.values()))


def _fixed_key(value: Any) -> Any:
    """Returns a hashable key of a value, with its types, as a part of the shape; None if it is not plain data."""
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool or kind is float:
        return (kind, value)
    if kind is tuple or kind is list:
        items = tuple(map(_fixed_key, value))
        return None if None in items else (kind, items)
    if kind is dict:
        items = tuple((_fixed_key(name), _fixed_key(item)) for name, item in value.items())
        return None if any(None in item for item in items) else (kind, items)
    return None
