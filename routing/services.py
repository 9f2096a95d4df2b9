"""All writes to the routing table: the database first, and after its commit the projection in Redis."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from routing import models, selectors, table
from routing.connection import redis_client
from routing.redis_table import RedisRoutingTable

logger = logging.getLogger(__name__)

_ATTEMPTS = 3


def set_record(service: str, hosts: Sequence[str], weights: Sequence[float], by: str = "") -> table.RoutingRecord:
    """Makes these the service's hosts and weights, under its next version; returns the record.

    `by` names who did it, for the revision. Raises RoutingInvalid with every reason, and has then written
    nothing.
    """
    errors = table.validate(service, hosts, weights)
    if errors:
        raise table.RoutingInvalid(errors)
    record = table.RoutingRecord(service, hosts, weights)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _write(record, by)
        except IntegrityError:
            # Another writer made the same service or version at the same time: there was no row yet to
            # lock. The second attempt finds its row, and waits for its lock.
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt either returns or raises")


@transaction.atomic
def remove_record(service: str, by: str = "") -> bool:
    """Removes the service, under its next version; False if there is no such service."""
    row = models.RoutingRecord.objects.select_for_update().filter(service=service).first()
    # MySQL finds a name in any case; a removal must name its service exactly.
    if row is None or row.service != service:
        return False
    _add_revision(table.RoutingRecord(service, [], [], _last_version(service) + 1), by, removed=True)
    row.delete()
    _project_after_commit(service)
    return True


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


def reproject_stale() -> list[str]:
    """Projects every service whose version in Redis is not the database's; returns their names, sorted.

    Services that only another tool wrote are left alone. Raises redis.RedisError where Redis does not answer.
    """
    redis_table = RedisRoutingTable(redis_client())
    in_database = dict(models.RoutingRecord.objects.values_list("service", "version"))
    in_redis, listed = redis_table.versions(), set(redis_table.services())
    stale = {
        service for service, version in in_database.items() if in_redis.get(service) != version or service not in listed
    }
    gone = in_redis.keys() - in_database.keys()
    ours = models.RoutingRevision.objects.filter(service__in=gone).values_list("service", flat=True)
    stale |= gone & set(ours)
    for service in sorted(stale):
        project(service)
    return sorted(stale)


@transaction.atomic
def _write(record: table.RoutingRecord, by: str) -> table.RoutingRecord:
    _refuse_same_but_for_case(record.service)
    row = models.RoutingRecord.objects.select_for_update().filter(service=record.service).first()
    version = _last_version(record.service) + 1
    if row is None:
        row = models.RoutingRecord(service=record.service)
    row.version, row.updated_at = version, timezone.now()
    row.save()
    row.hosts.all().delete()
    models.RoutingHost.objects.bulk_create(
        models.RoutingHost(record=row, position=position, host=host, weight=weight)
        for position, (host, weight) in enumerate(zip(record.hosts, record.weights, strict=True))
    )
    written = table.RoutingRecord(record.service, record.hosts, record.weights, version)
    _add_revision(written, by, removed=False)
    _project_after_commit(record.service)
    return written


def _refuse_same_but_for_case(service: str) -> None:
    # MySQL's keys do not tell case apart, so no database may hold both.
    other = selectors.same_but_for_case(service)
    if other is not None:
        raise table.RoutingInvalid([f"service: {service!r} differs from {other!r} only in case"])


def _last_version(service: str) -> int:
    """The last version, 0 if there never was one. Revisions outlive records: no version comes twice."""
    found = models.RoutingRevision.objects.filter(service=service).aggregate(last=Max("version"))["last"]
    return int(found or 0)


def _add_revision(record: table.RoutingRecord, by: str, *, removed: bool) -> None:
    models.RoutingRevision.objects.create(
        service=record.service,
        version=record.version,
        hosts=list(record.hosts),
        weights=list(record.weights),
        changed_by=by[: table.MAX_NAME_LENGTH],
        removed=removed,
    )


def _project_after_commit(service: str) -> None:
    def project_or_log() -> None:
        try:
            project(service)
        except redis.RedisError as error:
            # The database is the truth, and has committed; reproject_stale finds the version that Redis
            # lacks.
            logger.warning("routing record of %s is not in Redis yet, and will be projected later: %s", service, error)

    transaction.on_commit(project_or_log)
