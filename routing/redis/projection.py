"""The projection of the routing table: the database's records, written to Redis after the commit."""

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
    """Writes the database's record of the service to Redis. Raises redis.RedisError.

    Two processes may project one service at once, and the older version may be written last. So each reads the
    database again after its write, and the process that wrote last reads the newest version.
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
    """Stamps a record that was adopted from Redis. If another tool has changed it since, nothing is written.

    The next synchronisation adopts that change.
    """
    redis_table = RedisRoutingTable(redis_client())
    record = selectors.record(service)
    if record is None:
        redis_table.confirm_removal(service)
    else:
        redis_table.confirm(record)


def project_after_commit(service: str) -> None:
    """Projects after the commit; when Redis does not answer, a synchronisation does it later."""
    _after_commit(project, service)


def confirm_after_commit(service: str) -> None:
    """Confirms after the commit; when Redis does not answer, a synchronisation does it later."""
    _after_commit(confirm, service)


def _after_commit(step: Callable[[str], None], service: str) -> None:
    def step_or_log() -> None:
        try:
            step(service)
        except redis.RedisError as error:
            # The database is authoritative, and has committed; a synchronisation finds the version that Redis lacks.
            logger.warning(
                "the routing record of %s could not be written to Redis, and will be projected later: %s",
                service,
                error,
            )

    transaction.on_commit(step_or_log)
