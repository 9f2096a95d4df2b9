"""The controller's one Redis client for the routing table."""

from __future__ import annotations

from functools import lru_cache

import redis
from django.conf import settings


@lru_cache(maxsize=1)
def redis_client() -> redis.Redis:
    """The client, built once; it connects when first used, and threads and forked processes may share it."""
    return redis.Redis.from_url(settings.GALILEO_REDIS_URL, **settings.GALILEO_REDIS_OPTIONS)
