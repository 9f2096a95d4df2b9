"""Prepares requests by `requests` and `urllib3`: the slow way, and the reference of templates.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.url import _encode_target  # private, but its connection pool does this before it writes

from loadgen.engine.errors import AppError
from loadgen.engine.http import tls
from loadgen.protocol.messages import KEYWORDS, REQUEST_KEYWORDS

USER_AGENT = "galileo"
# `requests` would also ask for what packages on this worker can decode. These, every worker can.
ACCEPT_ENCODING = "gzip, deflate"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BLOCK = 16384


@dataclass(frozen=True, slots=True)
class Call:
    """A checked call of `requests.request`."""

    method: str
    path: str
    keywords: dict[str, Any]
    timeout_s: float | None  # None: the workload's
    connect_timeout_s: float | None
    follow: bool
    tls: tls.TlsOptions


def check(method: Any, endpoint: Any, kwargs: Any) -> Call:
    """Checks the arguments of a call.

    Raises:
        AppError: an argument is invalid; the message names it.
    """
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        raise AppError(f"method: must be the name of an HTTP method, got {method!r:.80}")
    if method.upper() == "CONNECT":
        raise AppError("method: CONNECT is not supported")
    if not isinstance(endpoint, str) or _URL_SCHEME.match(endpoint):
        raise AppError(f"endpoint: must be a path on the service, got {endpoint!r:.80}")
    if not isinstance(kwargs, Mapping):
        raise AppError(f"keywords: must be a dictionary, got {kwargs!r:.80}")
    for name in kwargs:
        if name not in KEYWORDS:
            raise AppError(f"{name}: not a keyword of requests.request ({', '.join(KEYWORDS)})")
    if kwargs.get("proxies"):
        raise AppError("proxies: not supported; requests are sent directly to the hosts of the service")
    hooks = kwargs.get("hooks") or {}
    if not isinstance(hooks, Mapping) or any(hooks.values()):
        raise AppError("hooks: not supported; the engine has no `requests.Response` to pass to a hook")
    keywords = {name: kwargs[name] for name in REQUEST_KEYWORDS if name in kwargs}
    if isinstance(keywords.get("auth"), list):  # JSON has no tuples
        keywords["auth"] = tuple(keywords["auth"])
    connect_timeout_s, timeout_s = _timeouts(kwargs.get("timeout"))
    path = endpoint if endpoint.startswith("/") else f"/{endpoint}"
    follow = bool(kwargs.get("allow_redirects", True))
    return Call(method, path, keywords, timeout_s, connect_timeout_s, follow, _tls_options(kwargs))


def _timeouts(value: Any) -> tuple[float | None, float | None]:
    """Returns the seconds to connect, and from sending to the complete response; a number is both, as in `requests`."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(map(_is_timeout, pair)):
        raise AppError(f"timeout: must be a number of seconds above 0, or (connect, read), got {value!r:.80}")
    return pair[0], pair[1]


def _is_timeout(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6)


def _tls_options(kwargs: Mapping[str, Any]) -> tls.TlsOptions:
    verify, cert = kwargs.get("verify"), kwargs.get("cert")
    if verify is None:
        verify = True
    if not isinstance(verify, (bool, str)) or verify == "":
        raise AppError(f"verify: must be True, False or the path of a bundle of certificates, got {verify!r:.80}")
    if isinstance(cert, (tuple, list)):
        cert = tuple(cert)
        good = len(cert) == 2 and all(isinstance(part, str) for part in cert)
    else:
        good = cert is None or isinstance(cert, str)
    if not good:
        raise AppError(f"cert: must be the path of a certificate, or (certificate, key), got {cert!r:.80}")
    return tls.options(verify, cert or None)


def new_session() -> requests.Session:
    """Returns a session with the engine's own headers that ignores the environment (proxies, .netrc)."""
    session = requests.Session()
    session.trust_env = False
    session.headers["User-Agent"] = USER_AGENT
    session.headers["Accept-Encoding"] = ACCEPT_ENCODING
    return session


def prepare(session: requests.Session, base_url: str, call: Call) -> requests.PreparedRequest:
    """Prepares the request by `requests`.

    Raises:
        AppError: `requests`, or an auth object of the app, has raised an error.
    """
    try:
        prepared = session.prepare_request(requests.Request(call.method, base_url + call.path, **call.keywords))
    except Exception as error:
        raise AppError(f"the request cannot be prepared: {type(error).__name__}: {error}") from error
    if prepared.hooks.get("response"):
        raise AppError("auth: an auth object that answers a challenge of the server is not supported")
    return prepared


class _Sink:
    """A stand-in for a connected socket that keeps the written bytes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.parts.append(bytes(data))

    def settimeout(self, seconds: float | None) -> None:
        return


def write(prepared: requests.PreparedRequest) -> tuple[list[str], bytes]:
    """Returns the lines of the request's head, and its body, as `urllib3` writes them for `requests`.

    Raises:
        AppError: the request cannot be written.
    """
    assert prepared.url is not None and prepared.method is not None
    headers = cast("dict[str, str]", prepared.headers)
    chunked = not (prepared.body is None or "Content-Length" in headers)
    try:
        parts = urlsplit(prepared.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, blocksize=_BLOCK)
        sink = _Sink()
        connection.sock = cast(Any, sink)
        target = _encode_target(prepared.path_url)
        connection.request(prepared.method, target, cast(Any, prepared.body), headers, chunked=chunked)
    except Exception as error:
        raise AppError(f"the request cannot be prepared: {type(error).__name__}: {error}") from error
    head, _, body = b"".join(sink.parts).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if hasattr(prepared.body, "read") and not chunked:
        # `requests` counts a StringIO in characters (psf/requests#6917): here, the bytes that were read are counted.
        lines = [line for line in lines if header_name(line) != "content-length"] + [f"Content-Length: {len(body)}"]
    return lines, body


def header_name(line: str) -> str:
    """Returns the name in a header line, in lower case; for a request line, a text that is not a header's name."""
    return line.partition(":")[0].lower()
