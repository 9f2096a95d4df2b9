"""RedisRoutingTable: the routing table in Redis, in the schema that the original Galileo's tools read and write.

- set `routing:services`: the services
- list `routing:hosts:<service>`: its hosts
- list `routing:weights:<service>`: their weights, in the same order, as decimal text
- channel `routing:updates`: a service's name, whenever its record has changed
- hash `routing:versions`: service -> `<version> <digest>`, the stamp of the record that we wrote last (not part of the
  original's schema)

Other tools do not write the stamp: a record whose digest differs from its stamp was written by another tool, and is
read as version 0. As tools may write key after key, a service that is in the set without lists is half written, not
removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio

from routing.table import RoutingError, RoutingRecord, find_target_errors, format_weight

SERVICES_KEY = "routing:services"
VERSIONS_KEY = "routing:versions"
UPDATES_CHANNEL = "routing:updates"

MAX_VERSION = 2**31 - 1  # the largest value of every database's integer column

_COMMANDS_PER_SERVICE = 4
_DIGEST_LENGTH = 16


def hosts_key(service: str) -> str:
    """Returns the key of a service's hosts."""
    return f"routing:hosts:{service}"


def weights_key(service: str) -> str:
    """Returns the key of a service's weights."""
    return f"routing:weights:{service}"


@dataclass(frozen=True)
class Stored:
    """The content of a service's keys in Redis.

    Attributes:
        record: the record that workers read; None if there is none, or if it is not valid.
        stamp: the version that we wrote last; None if there is none.
        listed: whether the service is in the set of services.
        unreadable: why the content is not a record; "" if it is one, or if there is none.
    """

    record: RoutingRecord | None = None
    stamp: int | None = None
    listed: bool = False
    unreadable: str = ""

    @property
    def is_untouched(self) -> bool:
        """Whether this is the record that we wrote last, or nothing at all: no other tool has changed it since."""
        if self.record is None:
            return self.stamp is None and not self.unreadable
        return self.listed and self.record.version == self.stamp


class RedisRoutingTable:
    """Reads and writes the table through any redis-py client, with or without `decode_responses`.

    Raises redis.RedisError, and RoutingError when the stored values are not a record.
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
            _queue_stamp(transaction, record)
            transaction.execute()

    def remove(self, service: str) -> None:
        """Removes the service's record, if there is one, and publishes its name, in one transaction."""
        with self._client.pipeline(transaction=True) as transaction:
            transaction.srem(SERVICES_KEY, service)
            _queue_removal(transaction, service)
            transaction.execute()

    def confirm(self, record: RoutingRecord) -> bool:
        """Stamps a record that another tool wrote with its version. Returns False if the record has changed."""
        pipeline: Any = self._client.pipeline(transaction=True)
        with pipeline as transaction:
            transaction.watch(SERVICES_KEY, hosts_key(record.service), weights_key(record.service))
            found = parse_stored(record.service, queue_read(transaction, record.service)).record
            is_listed = transaction.sismember(SERVICES_KEY, record.service)
            if not is_listed or found is None or (found.hosts, found.weights) != (record.hosts, record.weights):
                return False
            transaction.multi()
            _queue_stamp(transaction, record)
            return _is_executed(transaction)

    def confirm_removal(self, service: str) -> bool:
        """Removes what another tool left of a service that it removed. Returns False if the service exists again."""
        pipeline: Any = self._client.pipeline(transaction=True)
        with pipeline as transaction:
            transaction.watch(SERVICES_KEY)
            if transaction.sismember(SERVICES_KEY, service):
                return False
            transaction.multi()
            _queue_removal(transaction, service)
            return _is_executed(transaction)

    def read(self, service: str) -> RoutingRecord | None:
        """Returns the service's record, read in one transaction; None if there is none."""
        with self._client.pipeline(transaction=True) as transaction:
            queue_read(transaction, service)
            return parse_read(service, transaction.execute())

    def read_all(self) -> list[RoutingRecord]:
        """Returns every record, read in one transaction, ordered by service."""
        replies = self._read_each(services := self.services())
        records = [parse_read(service, replies[service]) for service in services]
        # A service that was removed after its name was read has no record.
        return [record for record in records if record is not None]

    def read_stored(self) -> dict[str, Stored]:
        """Returns the content of each service that Redis knows, by name."""
        with self._client.pipeline(transaction=True) as transaction:
            transaction.smembers(SERVICES_KEY)
            transaction.hkeys(VERSIONS_KEY)
            members, stamped = transaction.execute()
        names: set[str] = set()
        found: dict[str, Stored] = {}
        for name in {*members, *stamped}:
            try:
                names.add(_text(name, SERVICES_KEY))
            except RoutingError as error:
                found[repr(name)] = Stored(unreadable=str(error))
        for service, replies in self._read_each(sorted(names)).items():
            found[service] = parse_stored(service, replies)
        return found

    def services(self) -> list[str]:
        """Returns the names of the services, sorted."""
        members: Any = self._client.smembers(SERVICES_KEY)
        return sorted(_text(member, SERVICES_KEY) for member in members)

    def _read_each(self, services: list[str]) -> dict[str, list[Any]]:
        """Returns the replies to `queue_read` for each of these, read in one transaction."""
        with self._client.pipeline(transaction=True) as transaction:
            for service in services:
                queue_read(transaction, service)
            replies = transaction.execute()
        begins = range(0, len(replies), _COMMANDS_PER_SERVICE)
        return {
            service: replies[begin : begin + _COMMANDS_PER_SERVICE]
            for service, begin in zip(services, begins, strict=True)
        }


async def read_async(client: redis.asyncio.Redis, service: str) -> RoutingRecord | None:
    """As `RedisRoutingTable.read`, on an event loop."""
    async with client.pipeline(transaction=True) as transaction:
        queue_read(transaction, service)
        return parse_read(service, await transaction.execute())


def queue_read(transaction: Any, service: str) -> list[Any]:
    """Queues the commands that read one record on a transaction of redis-py's, blocking or asyncio.

    Returns their replies if the transaction is watching, which executes commands at once.
    """
    return [
        transaction.lrange(hosts_key(service), 0, -1),
        transaction.lrange(weights_key(service), 0, -1),
        transaction.hget(VERSIONS_KEY, service),
        transaction.sismember(SERVICES_KEY, service),
    ]


def parse_read(service: str, replies: Iterable[Any]) -> RoutingRecord | None:
    """Returns the record in the replies to `queue_read`; None if there is none. Raises RoutingError."""
    raw_hosts, raw_weights, raw_stamp, is_listed = replies
    if not raw_hosts and not raw_weights and not is_listed:
        return None
    hosts = [_text(host, hosts_key(service)) for host in raw_hosts]
    weights = [_parse_weight(service, index, weight) for index, weight in enumerate(raw_weights)]
    version, digest = (0, "") if raw_stamp is None else _parse_stamp(service, raw_stamp)
    errors = find_target_errors(hosts, weights)
    if errors:
        reasons = "; ".join(str(error) for error in errors)
        raise RoutingError(f"the routing record of {service!r} in Redis is invalid, set it again: {reasons}")
    record = RoutingRecord(service, hosts, weights, version)
    return record if digest == _digest(record) else RoutingRecord(service, hosts, weights)


def parse_stored(service: str, replies: list[Any]) -> Stored:
    """Returns the content of the replies to `queue_read`, also when it is not valid."""
    raw_hosts, raw_weights, raw_stamp, is_listed = replies
    stamp: int | None = None
    if raw_stamp is not None:
        try:
            stamp, _ = _parse_stamp(service, raw_stamp)
        except RoutingError:
            raw_stamp = None  # the database's record is projected again, with a stamp that can be read
    try:
        record = parse_read(service, (raw_hosts, raw_weights, raw_stamp, is_listed))
    except RoutingError as error:
        return Stored(stamp=stamp, listed=bool(is_listed), unreadable=str(error))
    return Stored(record, stamp, bool(is_listed))


def _queue_stamp(transaction: Any, record: RoutingRecord) -> None:
    transaction.hset(VERSIONS_KEY, record.service, f"{record.version} {_digest(record)}")
    transaction.publish(UPDATES_CHANNEL, record.service)


def _queue_removal(transaction: Any, service: str) -> None:
    transaction.delete(hosts_key(service), weights_key(service))
    transaction.hdel(VERSIONS_KEY, service)
    transaction.publish(UPDATES_CHANNEL, service)


def _is_executed(transaction: Any) -> bool:
    """Executes a transaction. Returns False if a watched key has changed."""
    try:
        transaction.execute()
    except redis.WatchError:
        return False
    return True


def _digest(record: RoutingRecord) -> str:
    """Returns a digest of hosts and weights that does not depend on how the numbers were written."""
    lines = (f"{host} {format_weight(weight)}" for host, weight in zip(record.hosts, record.weights, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGEST_LENGTH]


def _text(value: bytes | str, key: str) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise RoutingError(f"{key}: must be valid UTF-8, got {value!r}") from None


def _parse_weight(service: str, index: int, value: bytes | str) -> float:
    text = _text(value, weights_key(service))
    try:
        return float(text)
    except ValueError:
        raise RoutingError(f"{weights_key(service)}[{index}]: must be a number, got {text!r}") from None


def _parse_stamp(service: str, value: bytes | str) -> tuple[int, str]:
    """Returns version and digest."""
    text = _text(value, VERSIONS_KEY)
    number, _, digest = text.partition(" ")
    is_number = number.isascii() and number.isdigit() and len(number) <= len(str(MAX_VERSION))
    if not is_number or int(number) > MAX_VERSION:
        what = f"a whole number up to {MAX_VERSION} and a digest"
        raise RoutingError(f"{VERSIONS_KEY}[{service}]: must be {what}, got {text[:80]!r}")
    return int(number), digest
