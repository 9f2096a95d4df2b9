"""All writes to the routing table: first to the database, and after the commit to its projection in Redis.

The admin, the API, the shell, commands and experiments change records through these functions, and so does
routing/redis/synchronisation.py for other tools, which write to Redis directly. `by` names the author in the revision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from routing import models, selectors, table
from routing.errors import Code, Conflict, FieldError, InvalidInput, NotFound
from routing.redis import projection

BY_REDIS = "redis"  # the author of a change that another tool wrote to Redis

_ATTEMPTS = 3

# Returns the wanted hosts and weights of a record, given the present record.
Wanted = Callable[[table.RoutingRecord | None], tuple[Sequence[str], Sequence[float]]]


class Overtaken(Exception):
    """The record has a newer version than the one that the change was based on; nothing was written."""


class RecordMissing(NotFound, ValueError):
    """A service has no routing record; a ValueError, as in the original."""

    def __init__(self, service: str) -> None:
        super().__init__(f"service {service!r} has no routing record")


def set_record(
    service: str, hosts: Sequence[str], weights: Sequence[float] | None = None, by: str = ""
) -> table.RoutingRecord:
    """Sets the service's hosts and weights as its next version; returns the record.

    Without weights each host has weight 1. Raises InvalidInput.
    """
    return _change(service, lambda _: (hosts, _or_ones(weights, hosts)), by)


def add_record(
    service: str, hosts: Sequence[str], weights: Sequence[float] | None = None, by: str = ""
) -> table.RoutingRecord:
    """As `set_record`, for a service that has no record. Raises InvalidInput and Conflict."""

    def wanted(present: table.RoutingRecord | None) -> tuple[Sequence[str], Sequence[float]]:
        if present is not None:
            raise Conflict(f"service {service!r} has a routing record already")
        return hosts, _or_ones(weights, hosts)

    return _change(service, wanted, by)


def change_record(
    service: str, hosts: Sequence[str] | None = None, weights: Sequence[float] | None = None, by: str = ""
) -> table.RoutingRecord:
    """Changes the hosts, the weights or both of a record as its next version; None leaves them unchanged.

    Raises RecordMissing and InvalidInput.
    """

    def wanted(present: table.RoutingRecord | None) -> tuple[Sequence[str], Sequence[float]]:
        if present is None:
            raise RecordMissing(service)
        return present.hosts if hosts is None else hosts, present.weights if weights is None else weights

    return _change(service, wanted, by)


def append_host(service: str, host: str, weight: float = 1, by: str = "") -> table.RoutingRecord:
    """Adds a host to the service's record, and creates the record if there is none. Raises InvalidInput."""

    def wanted(present: table.RoutingRecord | None) -> tuple[Sequence[str], Sequence[float]]:
        return ([host], [weight]) if present is None else ([*present.hosts, host], [*present.weights, weight])

    return _change(service, wanted, by)


@transaction.atomic
def remove_record(service: str, by: str = "") -> bool:
    """Removes the service's record, which is a version, too. Returns whether there was one."""
    row = _locked_row(service)
    if row is None:
        return False
    _remove(row, by)
    projection.project_after_commit(service)
    return True


@transaction.atomic
def remove_all(by: str = "") -> list[str]:
    """Removes every record; returns the names of the services, sorted."""
    services = list(models.RoutingRecord.objects.values_list("service", flat=True))
    return [service for service in services if remove_record(service, by)]


@transaction.atomic
def adopt(service: str, found: table.RoutingRecord | None, after: int) -> None:
    """Stores what another tool wrote to Redis as the service's next version; None: the tool removed the service.

    After the commit only the stamp is written to Redis: the tool may have changed the record again.

    Args:
        after: the service's last version (0: none) when this was read.

    Raises:
        Overtaken: the service has a newer version.
        InvalidInput: the name is invalid.
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


def service_errors(service: object) -> list[FieldError]:
    """Returns every reason why no record may have this name; empty if it may."""
    if errors := list(table.find_service_errors(service)):
        return errors
    # MySQL's keys are case-insensitive, so no database may hold both.
    other = selectors.same_but_for_case(str(service))
    if other is None:
        return []
    return [FieldError("service", Code.DUPLICATE, f"must differ from {other!r} in more than case, got {service!r}")]


def _or_ones(weights: Sequence[float] | None, hosts: Sequence[str]) -> Sequence[float]:
    if weights is not None:
        return weights
    return [1] * len(hosts) if isinstance(hosts, list | tuple) else [1]


def _change(service: str, wanted: Wanted, by: str) -> table.RoutingRecord:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _change_once(service, wanted, by)
        except IntegrityError:
            # Another writer created the same service or version at the same time, when there was no row to lock. The
            # second attempt finds its row, and waits for its lock.
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
    errors = [*service_errors(service), *table.find_target_errors(hosts, weights)]
    if errors:
        raise InvalidInput(errors)
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
        return None  # some databases refuse to search for such a name
    row = models.RoutingRecord.objects.select_for_update().filter(service=service).first()
    # MySQL compares names case-insensitively; a change must name its service exactly.
    return row if row is not None and row.service == service else None


def _last_version(service: str) -> int:
    """Returns the last version, 0 if there is none. Revisions outlive records, so that no version is used twice."""
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
