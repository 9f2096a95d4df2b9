"""The routing table in Redis: its keys, the projection of the database, and the synchronisation of the two.

`redis_client` is the controller's only Redis client, which other packages use, too.
"""

from __future__ import annotations

from functools import lru_cache

import redis


@lru_cache(maxsize=1)
def redis_client() -> redis.Redis:
    """Returns the controller's client, made at the first call. Threads and forked processes may share it."""
    from django.conf import settings  # the worker imports routing.redis.table, and has no Django

    return redis.Redis.from_url(settings.GALILEO_REDIS_URL, **settings.GALILEO_REDIS_OPTIONS)
