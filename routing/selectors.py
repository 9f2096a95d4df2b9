"""All reads of the routing table in the database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from routing import models, table


def records(host: str | None = None) -> list[table.RoutingRecord]:
    """Returns the present records, ordered by service; only those with this host, if given."""
    found = [row.value() for row in models.RoutingRecord.objects.prefetch_related("hosts")]
    return found if host is None else [record for record in found if host in record.hosts]


def record(service: str) -> table.RoutingRecord | None:
    """Returns the service's present record, or None."""
    if any(table.find_service_errors(service)):
        return None  # some databases refuse to search for such a name
    row = models.RoutingRecord.objects.prefetch_related("hosts").filter(service=service).first()
    # MySQL compares names case-insensitively.
    return row.value() if row and row.service == service else None


def same_but_for_case(service: str) -> str | None:
    """Returns a routed service whose name differs from this one only in case, or None."""
    names = models.RoutingRecord.objects.filter(service__iexact=service).values_list("service", flat=True)
    return next((name for name in names if name != service), None)


def revisions(
    services: Iterable[str], since: datetime | None = None, until: datetime | None = None
) -> list[models.RoutingRevision]:
    """Returns these services' versions from `since` to `until`, both included (None: no bound), oldest first."""
    found = models.RoutingRevision.objects.filter(service__in=list(services))
    if since is not None:
        found = found.filter(changed_at__gte=since)
    if until is not None:
        found = found.filter(changed_at__lte=until)
    return list(found.order_by("changed_at", "service", "version"))


def in_force(services: Iterable[str], at: datetime) -> list[models.RoutingRevision]:
    """Returns the version of each service that was in force at a time."""
    newest = models.RoutingRevision.objects.filter(changed_at__lte=at).order_by("-version")
    found = (newest.filter(service=service).first() for service in services)
    return [revision for revision in found if revision is not None]


def newest_revision(service: str) -> models.RoutingRevision | None:
    """Returns the service's last version, which may be its removal; None if it never had one."""
    found = models.RoutingRevision.objects.filter(service=service).order_by("-version")
    # MySQL compares names case-insensitively.
    return next((revision for revision in found.iterator() if revision.service == service), None)
