"""Where a client's next request goes, and what is written there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadgen.engine.http.wire import Wire

if TYPE_CHECKING:
    from loadgen.engine.http.pool import HostPool, Pool
    from loadgen.engine.http.sources import RequestSource

Aim = tuple["HostPool", Wire]


class Aims:
    """Takes the clients' requests from their source, with the connections of the host that each is for.

    `fixed` has, by host, what need not be asked for again: it is the same for all clients and for ever.
    """

    __slots__ = ("_pool", "_source", "fixed")

    def __init__(self, source: RequestSource, pool: Pool) -> None:
        self._source = source
        self._pool = pool
        self.fixed: dict[str, Aim] = {}

    def take(self, client: int, host: str) -> Aim:
        """The client's next request, for this host. Raises AppError."""
        wire = self._source.wire(client, host)
        aim = self._pool.host(host, wire.tls), wire
        if self._source.is_static:
            self.fixed[host] = aim
        return aim
