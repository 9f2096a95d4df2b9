"""Routers and balancers: the target of a workload's requests, and the host of each.

Routers:

host     http://<host>/<path>: the hosts of the service's routing record
service  http://<host>/<service>/<path>: the same hosts, each with a reverse proxy in front of its services
static   one fixed root URL; the routing table is not read
debug    nothing is sent: each request gets status 200 at once, without a network
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from itertools import accumulate
from typing import Final, Protocol
from urllib.parse import urlsplit

from routing.table import find_target_errors

HOST, SERVICE, STATIC, DEBUG = "host", "service", "static", "debug"
ROUTERS = (HOST, SERVICE, STATIC, DEBUG)
# The original's names. Its routers with and without a cache are the same here, as a worker always keeps the record.
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

# Credits are integers in units of 1/total of a request; the total is at least this, so that carrying a credit
# over a change of weights loses less than a millionth of a request.
_RESOLUTION = 1 << 20
# A cycle up to this length is kept and replayed; longer ones are computed as needed.
_LONGEST_KEPT_CYCLE = 4096
# The (pick, host) pairs per extension, about: tens of microseconds, so that arrivals are not delayed.
_PAIRS_PER_EXTENSION = 256
# Numbers drawn at random are below this.
_DRAWS: Final = 1 << 64
_DRAW_BYTES: Final = 8


def router_of(name: str) -> str:
    """Returns the router of ROUTERS that a name of ROUTER_NAMES stands for."""
    return _ORIGINAL_NAMES.get(name, name)


def reads_table(router: str) -> bool:
    """Returns whether a router sends to the hosts of a service's routing record."""
    return router in (HOST, SERVICE)


@dataclass(frozen=True)
class StaticHost:
    """The target of a static router: a request's path is appended to `root`; `host` is its host[:port]."""

    root: str
    host: str


def parse_static_host(text: str, scheme: str = "http") -> StaticHost:
    """Parses `host[:port]` (with this `scheme`) or `http[s]://host[:port][/path]`.

    Raises:
        ValueError: with a message for the user.
    """
    url = text if "//" in text else f"{scheme}://{text}"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"must be a URL, got {text[:80]!r}: {error}") from error
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError(f"must be host[:port] or http[s]://host[:port][/path], got {text[:80]!r}")
    if not parts.path.isascii() or not parts.path.isprintable() or " " in parts.path:
        raise ValueError(f"must have a path of printable ASCII characters without spaces, got {parts.path[:80]!r}")
    if errors := find_target_errors([parts.netloc], [1]):
        raise ValueError(errors[0].message)
    return StaticHost(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", parts.netloc)


class Balancer(Protocol):
    """Chooses the host of each request of a service. Not thread-safe: one balancer per service and event loop."""

    def next(self, client: int, sequence: int) -> str:
        """Returns the host of the client's request with this number."""

    def update(self, weights: Mapping[str, float]) -> None:
        """Changes the weights from the next request on. Raises ValueError, and changes nothing then."""


class WeightedBalancer:
    """Weighted round robin; a host's count is always less than 1 away from its exact share.

    The exact share of n requests is n * weight / sum(weights). With w = weight / sum(weights), a host's count is
    within 1 of it at every n exactly if its k-th request comes no earlier than request floor((k - 1) / w) + 1 and
    no later than its deadline, request ceil(k / w). Of the hosts that may be next, the one with the earliest
    deadline is. The windows of all hosts can be met together (the deadlines up to request d are
    sum(floor(w * d)) <= d), and for unit jobs earliest-deadline-first meets them whenever they can be met.

    `offset` (the shard's index) chooses the first host: the (offset mod hosts)-th heaviest. The guarantee holds for
    any first host: all first windows open at request 1, and once it is given to host j, the deadlines left up to d
    are at most d - 1. Either j's own deadline was among them, or w_j * d < 1 and the others'
    sum(floor(w * d)) <= (1 - w_j) * d < d.

    Weights are the decimal numbers that they print as (0.1 is a tenth): a cycle of 0.1 : 0.2 is 3 requests long, and
    exact. Weight 0 gets no requests. The bound holds for constant weights: after a change, the carried credit is added
    to it.
    """

    _at: int
    _picks: list[str]

    def __init__(self, weights: Mapping[str, float], offset: int = 0) -> None:
        if offset < 0:
            raise ValueError(f"offset: must be at least 0, got {offset}")
        self._offset = offset
        self._install(weights, {})

    def next(self, client: int = 0, sequence: int = 0) -> str:
        """Returns the host of the next request, of any client."""
        at = self._at
        if at == len(self._picks):
            at = self._extend()
        self._at = at + 1
        return self._picks[at]

    def update(self, weights: Mapping[str, float]) -> None:
        """Changes the weights from the next request on. Raises ValueError, and changes nothing then.

        Hosts keep their credit (exact share so far minus requests so far). A removed host loses its credit, a new host
        starts at 0, and a host of weight 0 keeps its credit for later. The difference between 0 and the sum of the
        credits of the hosts with weight is spread over them by weight, so that no single host pays for removed ones.
        """
        self._install(weights, self._credit_by_host())

    def _install(self, weights: Mapping[str, float], carried: Mapping[str, Fraction]) -> None:
        shares = _integer_weights(weights)
        cycle = sum(shares.values())
        scale = -(-_RESOLUTION // cycle)
        self._cycle = cycle
        self._total = cycle * scale
        self._hosts = list(shares)
        self._weights = [share * scale for share in shares.values()]
        self._parked = {host: carried[host] for host in weights if host not in shares and host in carried}
        self._base = self._balanced([round(carried.get(host, 0) * self._total) for host in self._hosts])
        self._credits = list(self._base)
        self._picks = []
        self._at = 0
        if not any(self._base):
            self._take_first()

    def _balanced(self, credits: list[int]) -> list[int]:
        surplus = sum(credits)
        balanced = [
            credit - surplus * weight // self._total for credit, weight in zip(credits, self._weights, strict=True)
        ]
        balanced[self._weights.index(max(self._weights))] -= sum(balanced)
        return balanced

    def _take_first(self) -> None:
        by_weight = sorted(range(len(self._hosts)), key=lambda i: -self._weights[i])
        first = by_weight[self._offset % len(by_weight)]
        self._credits = list(self._weights)
        self._credits[first] -= self._total
        self._picks.append(self._hosts[first])

    def _extend(self) -> int:
        """Computes the next few picks; returns the index in `_picks` of the first."""
        picks = self._picks
        if len(picks) == self._cycle and self._credits == self._base:
            return 0
        if len(picks) >= self._cycle or self._cycle > _LONGEST_KEPT_CYCLE:
            self._base = list(self._credits)
            picks.clear()
        begin = len(picks)
        count = max(1, _PAIRS_PER_EXTENSION // len(self._hosts))
        for _ in range(min(count, self._cycle - begin)):
            picks.append(self._hosts[self._earliest_deadline()])
        return begin

    def _earliest_deadline(self) -> int:
        """Makes one step: each credit grows by its weight, and that of the chosen host falls by one request."""
        credits, total = self._credits, self._total
        best, best_missing, best_weight = -1, 0, 0
        for i, weight in enumerate(self._weights):
            credit = credits[i] + weight
            credits[i] = credit
            if credit > 0:
                missing = total - credit
                # missing / weight: how many requests later the deadline is; compared without rounding.
                if best < 0 or missing * best_weight < best_missing * weight:
                    best, best_missing, best_weight = i, missing, weight
        credits[best] -= total
        return best

    def _credit_by_host(self) -> dict[str, Fraction]:
        counts = Counter(self._picks[: self._at])
        current = {
            host: Fraction(base + self._at * weight - counts[host] * self._total, self._total)
            for host, base, weight in zip(self._hosts, self._base, self._weights, strict=True)
        }
        return self._parked | current


class RandomBalancer:
    """Draws the host of each request by weight, independently of all others.

    The draw is a hash of seed, client and sequence: it does not depend on the client's worker, on other clients or on
    other requests. With the same weights, the same request goes to the same host in each run.

    Weights are the decimal numbers that they print as; weight 0 gets no requests.
    """

    __slots__ = ("_bounds", "_hosts", "_key")

    def __init__(self, weights: Mapping[str, float], seed: str) -> None:
        self._key = blake2b(seed.encode()).digest()
        self.update(weights)

    def next(self, client: int, sequence: int) -> str:
        """Returns the host of the client's request with this number."""
        drawn = blake2b(b"%d.%d" % (client, sequence), digest_size=_DRAW_BYTES, key=self._key).digest()
        return self._hosts[bisect_right(self._bounds, int.from_bytes(drawn, "big"))]

    def update(self, weights: Mapping[str, float]) -> None:
        """Changes the weights from the next request on. Raises ValueError, and changes nothing then."""
        shares = _integer_weights(weights)
        total = sum(shares.values())
        self._hosts = list(shares)
        # The host of a draw is the first one whose bound lies above it; the last host needs no bound.
        self._bounds = [_DRAWS * up_to // total for up_to in accumulate(shares.values())][:-1]


def _integer_weights(weights: Mapping[str, float]) -> dict[str, int]:
    """Returns the positive weights as integers in the same proportion, with no common divisor."""
    exact: dict[str, Fraction] = {}
    for host, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise ValueError(f"weights[{host!r}]: must be a finite number of at least 0, got {weight}")
        if weight > 0:
            exact[host] = Fraction(str(weight))
    if not exact:
        raise ValueError("weights: must have at least one weight above 0")
    denominator = math.lcm(*(weight.denominator for weight in exact.values()))
    integers = {host: int(weight * denominator) for host, weight in exact.items()}
    divisor = math.gcd(*integers.values())
    return {host: weight // divisor for host, weight in integers.items()}
