"""Routes: the host of each arrival, from the service's routing record or from a fixed router."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from loadgen.protocol.enums import Scheme
from loadgen.protocol.messages import WorkloadSpec
from routing import routers
from routing.routers import Balancer, RandomBalancer, WeightedBalancer
from routing.table import RoutingRecord

# Returns the host of a client's request by its sequence number; None if there is no route.
NextHost = Callable[[int, int], str | None]
# Makes a balancer from a record's weights.
Balance = Callable[[Mapping[str, float]], Balancer]


class Routes:
    """The hosts of a service's routing record; changes take effect with the next arrival.

    `next` returns a host, or None while no host has a weight above 0. `version` is the record's; it is 0 without a
    record, and for one that another tool wrote. `nodes` has the names, without ports, of all hosts that the service has
    had so far.

    Args:
        balance: makes the balancer of a record's weights.
        router: `host` for http://host/path, `service` for http://host/service/path.
        scheme: http or https.
    """

    __slots__ = ("_balance", "_balancer", "_root", "_router", "next", "nodes", "on_change", "service", "version")

    sends = True  # False: requests are not sent, but answered by the debug pool

    def __init__(
        self, service: str, balance: Balance = WeightedBalancer, router: str = routers.HOST, scheme: str = Scheme.HTTP
    ) -> None:
        self.service = service
        self.version = 0
        self.next: NextHost = _no_host
        self.nodes: set[str] = set()
        # Called with the remaining hosts, so that connections to the others can be closed.
        self.on_change: Callable[[Collection[str]], None] | None = None
        self._balance = balance
        self._router = router
        self._root = f"{scheme}://"
        self._balancer: Balancer | None = None

    def update(self, record: RoutingRecord | None) -> None:
        """Applies a changed record; with None, or a record without a positive weight, there is no route."""
        weights = record.weight_by_host() if record is not None else {}
        self.version = record.version if record is not None else 0
        self.nodes.update(map(host_name, weights))
        routable = any(weight > 0 for weight in weights.values())
        if not routable:
            self._balancer = None
            self.next = _no_host
        else:
            if self._balancer is None:
                self._balancer = self._balance(weights)
            else:
                self._balancer.update(weights)
            self.next = self._balancer.next
        if self.on_change is not None:
            self.on_change({host for host, weight in weights.items() if weight > 0})

    def base_url(self, host: str) -> str:
        """Returns the URL to which a request's path is appended."""
        return self._root + (host if self._router == routers.HOST else f"{host}/{self.service}")


class FixedRoutes(Routes):
    """Sends all requests to one place, without a routing record."""

    __slots__ = ("_place",)

    def __init__(self, service: str, place: routers.StaticHost) -> None:
        super().__init__(service)
        self._place = place
        self.nodes.add(host_name(place.host))
        self.next = lambda client, sequence: place.host

    def update(self, record: RoutingRecord | None) -> None:
        return

    def base_url(self, host: str) -> str:
        return self._place.root


class DebugRoutes(FixedRoutes):
    """Sends nothing: requests are made for a host that does not exist, and answered at once."""

    __slots__ = ()

    sends = False

    def __init__(self, service: str) -> None:
        super().__init__(service, routers.parse_static_host(routers.DEBUG_HOST))


def build_routes(
    workload: WorkloadSpec,
    seed: int,
    shard_index: int = 0,
    default_router: str = routers.HOST,
    default_static_host: str = routers.DEFAULT_STATIC_HOST,
) -> Routes:
    """Returns the routes of a shard.

    Args:
        seed: the group's; with it, the random balancer draws the same in each run.
        shard_index: the offset of the round robin, so that shards do not all begin with the same host.
        default_router, default_static_host: the worker's, for a workload that names none.
    """
    router = workload.router or default_router
    if router == routers.DEBUG:
        return DebugRoutes(workload.service)
    if router == routers.STATIC:
        place = routers.parse_static_host(workload.static_host or default_static_host, workload.scheme)
        return FixedRoutes(workload.service, place)
    balance: Balance = partial(WeightedBalancer, offset=shard_index)
    if workload.balancer == routers.RANDOM:
        balance = partial(RandomBalancer, seed=f"{seed}/{workload.index}")
    return Routes(workload.service, balance, router, workload.scheme)


def host_name(host: str) -> str:
    """Returns the name or address in `host[:port]`, in lower case; an IPv6 address keeps its brackets."""
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    return name.lower()


def _no_host(client: int, sequence: int) -> None:
    return None
