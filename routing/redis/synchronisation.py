"""Keeps database and Redis in step: other tools may change the table in Redis, and Redis may lose what we wrote.

What carries our stamp, or is missing together with its stamp, is our own doing: a projection is late, or Redis was
started empty. The database's record is projected then. What lies over our stamp without being what we wrote is another
tool's change, and becomes the next version, by `redis`: workers obey it already. Where the database has a newer version
than the one that the other tool wrote over, ours stands.
"""

from __future__ import annotations

import logging

from django.db import IntegrityError

from routing import models, selectors, services, table
from routing.redis import projection, redis_client
from routing.redis.table import RedisRoutingTable, Stored

logger = logging.getLogger(__name__)

# By service: what was last said of content that cannot be adopted. It is looked at every second, and said once.
_said: dict[str, str] = {}


def synchronise() -> list[str]:
    """Adopts what other tools have changed, and projects what Redis lacks; returns the services' names, sorted.

    Raises redis.RedisError where Redis does not answer.
    """
    # Redis first: what it then holds of ours, the database knows already.
    stored_by_service = RedisRoutingTable(redis_client()).look_around()
    versions = dict(models.RoutingRecord.objects.values_list("service", "version"))
    services_known = stored_by_service.keys() | versions.keys()
    for gone in _said.keys() - services_known:
        del _said[gone]
    changed = []
    for service in sorted(services_known):
        stored = stored_by_service.get(service, Stored())
        if stored.is_untouched and stored.stamp == versions.get(service):
            _said.pop(service, None)
        elif _bring_in_step(service, stored):
            changed.append(service)
    return changed


def _bring_in_step(service: str, stored: Stored) -> bool:
    """Whether something was done."""
    wrong_name = next(iter(table.find_service_errors(service)), None)
    newest = selectors.newest_revision(service) if wrong_name is None else None
    if newest is not None and (stored.is_untouched or not _lies_over(newest, stored)):
        if not stored.is_untouched:
            logger.warning("what another tool has set of service %s gives way to version %s", service, newest.version)
        projection.project(service)
    elif stored.nonsense or wrong_name is not None:
        return _say_once(service, stored.nonsense or str(wrong_name))
    elif newest is not None and _is_same(newest, stored):
        projection.confirm(service)
    else:
        return _adopt(service, stored, newest)
    _said.pop(service, None)
    return True


def _lies_over(newest: models.RoutingRevision, stored: Stored) -> bool:
    """Whether another tool has written over the newest version, and not over an older one while ours was on its way.

    A version that was adopted comes from Redis: until it is stamped, what is there came later, or is that version.
    """
    return newest.changed_by == services.BY_REDIS or stored.stamp == (None if newest.removed else newest.version)


def _is_same(newest: models.RoutingRevision, stored: Stored) -> bool:
    found = _content_of(stored)
    if found is None or newest.removed:
        return found is None and newest.removed
    value = newest.value()
    return (value.hosts, value.weights) == (found.hosts, found.weights)


def _content_of(stored: Stored) -> table.RoutingRecord | None:
    """The record that is to be; None: the service was removed. What is not in the set any more was."""
    return stored.record if stored.listed else None


def _adopt(service: str, stored: Stored, newest: models.RoutingRevision | None) -> bool:
    found = _content_of(stored)
    try:
        services.adopt(service, found, after=newest.version if newest is not None else 0)
    except (services.Overtaken, IntegrityError):
        return False  # the next pass sees what came of it
    except table.RoutingInvalid as invalid:
        return _say_once(service, str(invalid))
    logger.info("service %s: adopted from Redis: %s", service, "removed" if found is None else found)
    _said.pop(service, None)
    return True


def _say_once(service: str, reason: str) -> bool:
    if _said.get(service) != reason:
        _said[service] = reason
        logger.error("what another tool has set of service %s in Redis is not adopted: %s", service, reason)
    return False
