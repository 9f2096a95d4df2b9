"""All writes to the routing table: the database first, and after its commit the projection in Redis.

Whoever changes a record calls these: the admin, the API, the shell, commands, experiments, and for other tools, which
write to Redis directly, routing/redis/synchronisation.py. `by` names who did it, for the revision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from routing import models, selectors, table
from routing.redis import projection

BY_REDIS = "redis"  # who made a change that another tool had written to Redis

_ATTEMPTS = 3

# The hosts and weights that a record is to have, from the present one.
Wanted = Callable[[table.RoutingRecord | None], tuple[Sequence[str], Sequence[float]]]


class Overtaken(Exception):
    """The record has another version by now than the one that a change was meant for; nothing was written."""


def set_record(
    service: str, hosts: Sequence[str], weights: Sequence[float] | None = None, by: str = ""
) -> table.RoutingRecord:
    """Makes these the service's hosts and weights, under its next version; returns the record.

    Without weights each host weighs 1. Raises RoutingInvalid with every reason, and has then written nothing.
    """
    return _change(service, lambda _: (hosts, _or_ones(weights, hosts)), by)


def add_record(
    service: str, hosts: Sequence[str], weights: Sequence[float] | None = None, by: str = ""
) -> table.RoutingRecord:
    """As `set_record`, for a service that has no record. Raises RoutingInvalid and RoutingTaken."""

    def wanted(present: table.RoutingRecord | None) -> tuple[Sequence[str], Sequence[float]]:
        if present is not None:
            raise table.RoutingTaken(service)
        return hosts, _or_ones(weights, hosts)

    return _change(service, wanted, by)


def change_record(
    service: str, hosts: Sequence[str] | None = None, weights: Sequence[float] | None = None, by: str = ""
) -> table.RoutingRecord:
    """Changes the hosts, the weights or both of a record, under its next version; None leaves them as they are.

    Raises RoutingMissing and RoutingInvalid.
    """

    def wanted(present: table.RoutingRecord | None) -> tuple[Sequence[str], Sequence[float]]:
        if present is None:
            raise table.RoutingMissing(service)
        return present.hosts if hosts is None else hosts, present.weights if weights is None else weights

    return _change(service, wanted, by)


def append_host(service: str, host: str, weight: float = 1, by: str = "") -> table.RoutingRecord:
    """Adds a host to the service's record, which it makes if there is none. Raises RoutingInvalid."""

    def wanted(present: table.RoutingRecord | None) -> tuple[Sequence[str], Sequence[float]]:
        return ([host], [weight]) if present is None else ([*present.hosts, host], [*present.weights, weight])

    return _change(service, wanted, by)


@transaction.atomic
def remove_record(service: str, by: str = "") -> bool:
    """Removes the service, under its next version; False if there is no such service."""
    row = _locked_row(service)
    if row is None:
        return False
    _remove(row, by)
    projection.project_after_commit(service)
    return True


@transaction.atomic
def remove_all(by: str = "") -> list[str]:
    """Removes every service; returns their names, sorted."""
    services = list(models.RoutingRecord.objects.values_list("service", flat=True))
    return [service for service in services if remove_record(service, by)]


@transaction.atomic
def adopt(service: str, found: table.RoutingRecord | None, after: int) -> None:
    """Makes what another tool has written to Redis the service's next version; None: it has removed the service.

    Only its stamp goes to Redis after the commit: there, it might be something else by then.

    Args:
        after: the service's last version (0: none) when this was found.

    Raises:
        Overtaken: it has another version by now.
        RoutingInvalid: no record may have such a name.
    """
    row = _locked_row(service)
    newest = selectors.newest_revision(service)
    if after != (newest.version if newest is not None else 0):
        raise Overtaken
    if found is not None:
        _write(row, service, found.hosts, found.weights, BY_REDIS)
    elif row is not None:
        _remove(row, BY_REDIS)
    projection.confirm_after_commit(service)


def _or_ones(weights: Sequence[float] | None, hosts: Sequence[str]) -> Sequence[float]:
    """The weights; without any, a 1 for each host, as far as hosts is what it has to be."""
    if weights is not None:
        return weights
    return [1] * len(hosts) if isinstance(hosts, list | tuple) else [1]


def _change(service: str, wanted: Wanted, by: str) -> table.RoutingRecord:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _change_once(service, wanted, by)
        except IntegrityError:
            # Another writer made the same service or version at the same time: there was no row yet to
            # lock. The second attempt finds its row, and waits for its lock.
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt either returns or raises")


@transaction.atomic
def _change_once(service: str, wanted: Wanted, by: str) -> table.RoutingRecord:
    row = _locked_row(service)
    hosts, weights = wanted(row.value() if row is not None else None)
    record = _write(row, service, hosts, weights, by)
    projection.project_after_commit(service)
    return record


def _write(
    row: models.RoutingRecord | None, service: str, hosts: Sequence[str], weights: Sequence[float], by: str
) -> table.RoutingRecord:
    errors = table.find_errors(service, hosts, weights) or _case_errors(service)
    if errors:
        raise table.RoutingInvalid(errors)
    record = table.RoutingRecord(service, hosts, weights, _last_version(service) + 1)
    if row is None:
        row = models.RoutingRecord(service=service)
    row.version, row.updated_at = record.version, timezone.now()
    row.save()
    row.hosts.all().delete()
    models.RoutingHost.objects.bulk_create(
        models.RoutingHost(record=row, position=position, host=host, weight=weight)
        for position, (host, weight) in enumerate(zip(record.hosts, record.weights, strict=True))
    )
    _add_revision(record, by, removed=False)
    return record


def _remove(row: models.RoutingRecord, by: str) -> None:
    _add_revision(table.RoutingRecord(row.service, [], [], _last_version(row.service) + 1), by, removed=True)
    row.delete()


def _locked_row(service: str) -> models.RoutingRecord | None:
    if any(table.find_service_errors(service)):
        return None  # there is none of such a name, and some databases would not even look for it
    row = models.RoutingRecord.objects.select_for_update().filter(service=service).first()
    # MySQL finds a name in any case; a change must name its service exactly.
    return row if row is not None and row.service == service else None


def _case_errors(service: str) -> list[table.FieldError]:
    # MySQL's keys do not tell case apart, so no database may hold both.
    other = selectors.same_but_for_case(service)
    return (
        [] if other is None else [table.FieldError("service", None, f"{service!r} differs from {other!r} only in case")]
    )


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
