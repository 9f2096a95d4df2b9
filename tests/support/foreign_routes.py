"""Another tool that writes the routing table in Redis, in the original's schema; it knows nothing of versions."""

from __future__ import annotations

import redis


def set_route(client: redis.Redis, service: str, hosts: dict[str, str]) -> None:
    """Sets hosts and their weights, written as the tool likes to, in one transaction, and tells who listens."""
    with client.pipeline(transaction=True) as transaction:
        transaction.delete(f"routing:hosts:{service}", f"routing:weights:{service}")
        transaction.sadd("routing:services", service)
        transaction.rpush(f"routing:hosts:{service}", *hosts)
        transaction.rpush(f"routing:weights:{service}", *hosts.values())
        transaction.publish("routing:updates", service)
        transaction.execute()


def remove_route(client: redis.Redis, service: str) -> None:
    """Removes a service in one transaction, and tells who listens."""
    with client.pipeline(transaction=True) as transaction:
        transaction.delete(f"routing:hosts:{service}", f"routing:weights:{service}")
        transaction.srem("routing:services", service)
        transaction.publish("routing:updates", service)
        transaction.execute()
