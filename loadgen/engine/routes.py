"""Which host serves an arrival: the service's routing record, as this shard sees it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from loadgen.messages import HTTP
from routing.balancer import WeightedBalancer
from routing.table import RoutingRecord

HOST_ROUTER, SERVICE_ROUTER = "host", "service"


class Routes:
    """Weighted round robin over a service's hosts; changes take effect with the next arrival.

    `next` names a host, or is None while there is no host with a weight above 0. `version` is the record's.

    Args:
        offset: the shard's index, so that shards do not all begin with the same host.
        router: `host` for http://host/path, `service` for http://host/service/path.
        scheme: http or https.
    """

    __slots__ = ("_balancer", "_offset", "_root", "_router", "next", "on_change", "service", "version")

    def __init__(self, service: str, offset: int = 0, router: str = HOST_ROUTER, scheme: str = HTTP) -> None:
        if router not in (HOST_ROUTER, SERVICE_ROUTER):
            raise ValueError(f"router: {HOST_ROUTER} or {SERVICE_ROUTER} is needed, not {router!r}")
        self.service = service
        self.version = 0
        self.next: Callable[[], str | None] = _no_host
        # Called with the hosts that are left, so that connections to the others can be closed.
        self.on_change: Callable[[Collection[str]], None] | None = None
        self._offset = offset
        self._router = router
        self._root = f"{scheme}://"
        self._balancer: WeightedBalancer | None = None

    def update(self, record: RoutingRecord | None) -> None:
        """Takes over a changed record; None or a record without a positive weight: there is no route."""
        weights = record.weight_by_host() if record is not None else {}
        self.version = record.version if record is not None else 0
        routable = any(weight > 0 for weight in weights.values())
        if not routable:
            self._balancer = None
            self.next = _no_host
        else:
            if self._balancer is None:
                self._balancer = WeightedBalancer(weights, self._offset)
            else:
                self._balancer.update(weights)
            self.next = self._balancer.next
        if self.on_change is not None:
            self.on_change({host for host, weight in weights.items() if weight > 0})

    def base_url(self, host: str) -> str:
        """What a request's path is appended to."""
        return self._root + (host if self._router == HOST_ROUTER else f"{host}/{self.service}")


def _no_host() -> None:
    return None
