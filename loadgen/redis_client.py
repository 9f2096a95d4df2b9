"""Redis clients of the worker's processes."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from loadgen.broker import async_redis_options, redis_options
from loadgen.environment import RedisSettings


def blocking_client(settings: RedisSettings) -> redis.Redis:
    """For what may wait for Redis."""
    return redis.Redis.from_url(settings.url, **redis_options())


def brisk_client(settings: RedisSettings) -> redis.Redis:
    """For a loop that must not be held up: one try, which fails after two seconds."""
    options: dict[str, Any] = {
        **redis_options(),
        "socket_timeout": 2,
        "socket_connect_timeout": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis.Redis.from_url(settings.url, **options)


def async_client(settings: RedisSettings) -> redis.asyncio.Redis:
    """For an event loop."""
    return redis.asyncio.Redis.from_url(settings.url, **async_redis_options())
