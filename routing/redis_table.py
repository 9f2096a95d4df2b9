"""The routing table in Redis, in the schema that the original Galileo's tools read and write.

- set `routing:services`: the services
- list `routing:hosts:<service>`: its hosts
- list `routing:weights:<service>`: their weights, in the same order, as decimal text
- channel `routing:updates`: a service's name, whenever its record has changed
- hash `routing:versions`: service -> version; ours, beside the original's. A missing one reads as 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis
import redis.asyncio

from routing.table import RoutingError, RoutingRecord, find_target_errors, format_weight

SERVICES_KEY = "routing:services"
VERSIONS_KEY = "routing:versions"
UPDATES_CHANNEL = "routing:updates"

MAX_VERSION = 2**31 - 1  # what every database's column takes

_COMMANDS_PER_SERVICE = 3


def hosts_key(service: str) -> str:
    """The list of a service's hosts."""
    return f"routing:hosts:{service}"


def weights_key(service: str) -> str:
    """The list of a service's weights."""
    return f"routing:weights:{service}"


class RedisRoutingTable:
    """Reads and writes the table through any redis-py client, with `decode_responses` or without.

    Redis' own errors (`redis.RedisError`) pass through; stored values that make no sense are a RoutingError.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def write(self, record: RoutingRecord) -> None:
        """Replaces the service's record and publishes its name, in one transaction."""
        with self._client.pipeline(transaction=True) as transaction:
            transaction.sadd(SERVICES_KEY, record.service)
            transaction.delete(hosts_key(record.service), weights_key(record.service))
            transaction.rpush(hosts_key(record.service), *record.hosts)
            transaction.rpush(weights_key(record.service), *map(format_weight, record.weights))
            transaction.hset(VERSIONS_KEY, record.service, str(record.version))
            transaction.publish(UPDATES_CHANNEL, record.service)
            transaction.execute()

    def remove(self, service: str) -> None:
        """Forgets the service and publishes its name, in one transaction; it need not be there."""
        with self._client.pipeline(transaction=True) as transaction:
            transaction.srem(SERVICES_KEY, service)
            transaction.delete(hosts_key(service), weights_key(service))
            transaction.hdel(VERSIONS_KEY, service)
            transaction.publish(UPDATES_CHANNEL, service)
            transaction.execute()

    def read(self, service: str) -> RoutingRecord | None:
        """The service's hosts, weights and version of one moment; None if there is no such service."""
        with self._client.pipeline(transaction=True) as transaction:
            queue_read(transaction, service)
            return parse_read(service, transaction.execute())

    def read_all(self) -> list[RoutingRecord]:
        """Every service's record, of one moment, ordered by service."""
        services = self.services()
        with self._client.pipeline(transaction=True) as transaction:
            for service in services:
                queue_read(transaction, service)
            replies = transaction.execute()
        records = [
            parse_read(service, replies[begin : begin + _COMMANDS_PER_SERVICE])
            for service, begin in zip(services, range(0, len(replies), _COMMANDS_PER_SERVICE), strict=True)
        ]
        # A service that was removed after its name was read is simply not there any more.
        return [record for record in records if record is not None]

    def services(self) -> list[str]:
        """The services' names, sorted, whoever wrote them."""
        members: Any = self._client.smembers(SERVICES_KEY)
        return sorted(_text(member, SERVICES_KEY) for member in members)

    def versions(self) -> dict[str, int]:
        """The version of each service that was written with one."""
        stored: Any = self._client.hgetall(VERSIONS_KEY)
        named = ((_text(service, VERSIONS_KEY), version) for service, version in stored.items())
        return {service: _parse_version(service, version) for service, version in named}


async def read_async(client: redis.asyncio.Redis, service: str) -> RoutingRecord | None:
    """As `RedisRoutingTable.read`, on an event loop."""
    async with client.pipeline(transaction=True) as transaction:
        queue_read(transaction, service)
        return parse_read(service, await transaction.execute())


def queue_read(transaction: Any, service: str) -> None:
    """Queues what one record is read with on a transaction of redis-py's, blocking or asyncio."""
    transaction.lrange(hosts_key(service), 0, -1)
    transaction.lrange(weights_key(service), 0, -1)
    transaction.hget(VERSIONS_KEY, service)


def parse_read(service: str, replies: Iterable[Any]) -> RoutingRecord | None:
    """The record in the replies to `queue_read`; None if there is none, RoutingError if it makes no sense."""
    raw_hosts, raw_weights, raw_version = replies
    if not raw_hosts and not raw_weights:
        return None
    hosts = [_text(host, hosts_key(service)) for host in raw_hosts]
    weights = [_parse_weight(service, index, weight) for index, weight in enumerate(raw_weights)]
    version = 0 if raw_version is None else _parse_version(service, raw_version)
    errors = find_target_errors(hosts, weights)
    if errors:
        reasons = "; ".join(str(error) for error in errors)
        raise RoutingError(f"routing record of {service!r} in Redis: {reasons}; set it anew")
    return RoutingRecord(service, hosts, weights, version)


def _text(value: bytes | str, key: str) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise RoutingError(f"{key}: must hold UTF-8 text, not {value!r}") from None


def _parse_weight(service: str, index: int, value: bytes | str) -> float:
    text = _text(value, weights_key(service))
    try:
        return float(text)
    except ValueError:
        raise RoutingError(f"{weights_key(service)}[{index}]: must be a number, not {text!r}") from None


def _parse_version(service: str, value: bytes | str) -> int:
    text = _text(value, VERSIONS_KEY)
    if not (text.isascii() and text.isdigit()):
        raise RoutingError(f"{VERSIONS_KEY}[{service}]: must be a whole number, not {text!r}")
    version = int(text)
    if version > MAX_VERSION:
        raise RoutingError(f"{VERSIONS_KEY}[{service}]: must be at most {MAX_VERSION}, not {version}")
    return version
