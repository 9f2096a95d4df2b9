"""What the database holds of the routing table, written to Redis after the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable

import redis
from django.db import transaction

from routing import selectors
from routing.redis import redis_client
from routing.redis.table import RedisRoutingTable

logger = logging.getLogger(__name__)


def project(service: str) -> None:
    """Makes Redis hold what the database holds of the service; raises redis.RedisError where it cannot.

    Two processes may project one service at once, and the older version may be written last. So each
    looks again after its write, and the one that wrote last sees the newest version.
    """
    redis_table = RedisRoutingTable(redis_client())
    wanted = selectors.record(service)
    while True:
        if wanted is None:
            redis_table.remove(service)
        else:
            redis_table.write(wanted)
        written, wanted = wanted, selectors.record(service)
        if written == wanted:
            return


def confirm(service: str) -> None:
    """As `project`, for what came from Redis: where another tool has changed it since, it stays as it is.

    The next synchronisation finds that.
    """
    redis_table = RedisRoutingTable(redis_client())
    record = selectors.record(service)
    if record is None:
        redis_table.confirm_removal(service)
    else:
        redis_table.confirm(record)


def project_after_commit(service: str) -> None:
    """Projects after the commit; where Redis is away, a synchronisation does it later."""
    _after_commit(project, service)


def confirm_after_commit(service: str) -> None:
    """Confirms after the commit; where Redis is away, a synchronisation does it later."""
    _after_commit(confirm, service)


def _after_commit(step: Callable[[str], None], service: str) -> None:
    def step_or_log() -> None:
        try:
            step(service)
        except redis.RedisError as error:
            # The database is the truth, and has committed; a synchronisation finds the version that Redis lacks.
            logger.warning("routing record of %s is not in Redis yet, and will be projected later: %s", service, error)

    transaction.on_commit(step_or_log)
