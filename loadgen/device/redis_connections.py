"""Redis clients of the worker's processes."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from loadgen.broker.options import async_redis_options, redis_options
from loadgen.protocol.settings import RedisSettings

_BRISK: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 2}


def blocking_client(settings: RedisSettings) -> redis.Redis:
    """Returns a client for code that may wait for Redis."""
    return redis.Redis.from_url(settings.url, **redis_options())


def brisk_client(settings: RedisSettings) -> redis.Redis:
    """Returns a client for a loop that must not be delayed: each command has one try, which fails after two seconds."""
    return redis.Redis.from_url(settings.url, **{**redis_options(), **_BRISK, "retry": Retry(NoBackoff(), 0)})


def async_client(settings: RedisSettings) -> redis.asyncio.Redis:
    """Returns a client for a shard's event loop; it gives up a half-open connection well within the lease's TTL."""
    options = {**async_redis_options(), **_BRISK, "retry": AsyncRetry(NoBackoff(), 1)}
    return redis.asyncio.Redis.from_url(settings.url, **options)
