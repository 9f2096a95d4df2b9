"""Synchronisation of the database and Redis: other tools may change the table in Redis, and Redis may lose data.

If a record matches its stamp, or is missing together with it, no other tool has changed it: its projection is late, or
Redis was restarted empty, and the database's record is projected. If a record differs from its stamp, another tool has
changed it. It becomes the next version, by `redis`, as workers use it already, unless the database has a newer version
than the one that the tool changed.
"""

from __future__ import annotations

import logging

from django.db import IntegrityError

from routing import models, selectors, services, table
from routing.errors import InvalidInput
from routing.redis import projection, redis_client
from routing.redis.table import RedisRoutingTable, Stored

logger = logging.getLogger(__name__)

# By service: the last logged reason for which its content is not adopted. A pass is made every second, but each reason
# is logged once.
_logged: dict[str, str] = {}


def synchronise() -> list[str]:
    """Adopts changes of other tools, and projects records that Redis lacks; returns the services' names, sorted.

    Raises redis.RedisError when Redis does not answer.
    """
    # Redis is read first: the database already holds all of our versions that are there.
    stored_by_service = RedisRoutingTable(redis_client()).read_stored()
    versions = dict(models.RoutingRecord.objects.values_list("service", "version"))
    services_known = stored_by_service.keys() | versions.keys()
    for removed in _logged.keys() - services_known:
        del _logged[removed]
    changed = []
    for service in sorted(services_known):
        stored = stored_by_service.get(service, Stored())
        if stored.is_untouched and stored.stamp == versions.get(service):
            _logged.pop(service, None)
        elif _synchronise_service(service, stored):
            changed.append(service)
    return changed


def _synchronise_service(service: str, stored: Stored) -> bool:
    """Returns whether the service was projected or adopted."""
    invalid_name = next(iter(table.find_service_errors(service)), None)
    newest = selectors.newest_revision(service) if invalid_name is None else None
    if newest is not None and (stored.is_untouched or not _is_based_on(newest, stored)):
        if not stored.is_untouched:
            logger.warning(
                "another tool's change of service %s is overwritten with version %s", service, newest.version
            )
        projection.project(service)
    elif stored.unreadable or invalid_name is not None:
        return _log_once(service, stored.unreadable or str(invalid_name))
    elif newest is not None and _is_same(newest, stored):
        projection.confirm(service)
    else:
        return _adopt(service, stored, newest)
    _logged.pop(service, None)
    return True


def _is_based_on(newest: models.RoutingRevision, stored: Stored) -> bool:
    """Returns whether another tool changed the newest version, and not an older one before ours reached Redis.

    An adopted version comes from Redis: until it is stamped, the content is that version, or came later.
    """
    return newest.changed_by == services.BY_REDIS or stored.stamp == (None if newest.removed else newest.version)


def _is_same(newest: models.RoutingRevision, stored: Stored) -> bool:
    found = _content_of(stored)
    if found is None or newest.removed:
        return found is None and newest.removed
    value = newest.value()
    return (value.hosts, value.weights) == (found.hosts, found.weights)


def _content_of(stored: Stored) -> table.RoutingRecord | None:
    """Returns the record; None for a service that is not in the set of services, which means that it was removed."""
    return stored.record if stored.listed else None


def _adopt(service: str, stored: Stored, newest: models.RoutingRevision | None) -> bool:
    found = _content_of(stored)
    try:
        services.adopt(service, found, after=newest.version if newest is not None else 0)
    except (services.Overtaken, IntegrityError):
        return False  # the next pass reads the newer version
    except InvalidInput as invalid:
        return _log_once(service, str(invalid))
    logger.info("service %s: adopted from Redis: %s", service, "removed" if found is None else found)
    _logged.pop(service, None)
    return True


def _log_once(service: str, reason: str) -> bool:
    if _logged.get(service) != reason:
        _logged[service] = reason
        logger.error("another tool's change of service %s in Redis is not adopted: %s", service, reason)
    return False
