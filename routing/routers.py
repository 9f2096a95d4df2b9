"""Routers and balancers by name: what a workload or a worker may choose, under our names and the original's.

host     http://<host>/<path>: the hosts of the service's routing record
service  http://<host>/<service>/<path>: the same hosts, each with a reverse proxy in front of its services
static   all requests go to one place, whatever the routing table says
debug    nothing is sent: each request is answered at once, by nobody, with status 200
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from routing.table import find_target_errors

HOST, SERVICE, STATIC, DEBUG = "host", "service", "static", "debug"
ROUTERS = (HOST, SERVICE, STATIC, DEBUG)
# The original's names. Its two kinds of each, one with a cache and one without, are the same here: a worker keeps the
# record and listens for changes.
_ORIGINAL_NAMES = {
    "SymmetryHostRouter": HOST,
    "CachingSymmetryHostRouter": HOST,
    "SymmetryServiceRouter": SERVICE,
    "CachingSymmetryServiceRouter": SERVICE,
    "StaticRouter": STATIC,
    "DebugRouter": DEBUG,
}
ROUTER_NAMES = (*ROUTERS, *_ORIGINAL_NAMES)

DEFAULT_STATIC_HOST = "http://localhost"
DEBUG_HOST = "debughost"

ROUND_ROBIN, RANDOM = "round-robin", "random"
BALANCERS = (ROUND_ROBIN, RANDOM)


def router_of(name: str) -> str:
    """The one of ROUTERS that a name of ROUTER_NAMES stands for."""
    return _ORIGINAL_NAMES.get(name, name)


def reads_table(router: str) -> bool:
    """Whether a router sends to the hosts of a service's routing record."""
    return router in (HOST, SERVICE)


@dataclass(frozen=True)
class StaticHost:
    """Where a static router sends to: `root` is what a request's path is appended to, `host` its host[:port]."""

    root: str
    host: str


def parse_static_host(text: str, scheme: str = "http") -> StaticHost:
    """The place that `host[:port]` or `http[s]://host[:port][/path]` names; `scheme` is that of the first form.

    Raises:
        ValueError: with a sentence.
    """
    url = text if "//" in text else f"{scheme}://{text}"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"{text[:80]!r} is no URL: {error}") from error
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError(f"host[:port] or http[s]://host[:port][/path] is needed, not {text[:80]!r}")
    if not parts.path.isascii() or not parts.path.isprintable() or " " in parts.path:
        raise ValueError(f"a path of printable ASCII characters without spaces is needed, not {parts.path[:80]!r}")
    if errors := find_target_errors([parts.netloc], [1]):
        raise ValueError(errors[0].message)
    return StaticHost(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", parts.netloc)
