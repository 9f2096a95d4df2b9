"""Redis clients of the worker's processes."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from loadgen.broker.options import async_redis_options, redis_options
from loadgen.protocol.environment import RedisSettings

BRISK_S = 2


def blocking_client(settings: RedisSettings) -> redis.Redis:
    """For what may wait for Redis."""
    return redis.Redis.from_url(settings.url, **redis_options())


def brisk_client(settings: RedisSettings) -> redis.Redis:
    """For a loop that must not be held up: one try, which fails after two seconds."""
    options: dict[str, Any] = {
        **redis_options(),
        "socket_timeout": BRISK_S,
        "socket_connect_timeout": BRISK_S,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis.Redis.from_url(settings.url, **options)


def async_client(settings: RedisSettings) -> redis.asyncio.Redis:
    """For a shard's event loop: a half-open connection is given up well within the lease's TTL."""
    options: dict[str, Any] = {
        **async_redis_options(),
        "socket_timeout": BRISK_S,
        "socket_connect_timeout": BRISK_S,
        "retry": AsyncRetry(NoBackoff(), 1),
    }
    return redis.asyncio.Redis.from_url(settings.url, **options)
