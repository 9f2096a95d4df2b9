"""The routing table's rows; `routing.table.RoutingRecord` is their value.

Only `routing.services` writes them: a row that is changed otherwise reaches neither the revisions nor Redis.
"""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from routing import table


class RoutingRecord(models.Model):
    """A service that is routed now, with the version of its present hosts and weights."""

    service = models.CharField(max_length=table.MAX_NAME_LENGTH, unique=True)
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("service",)
        constraints = (
            models.CheckConstraint(condition=models.Q(version__gte=1), name="routing_record_version_from_1"),
        )

    def __str__(self) -> str:
        return self.service

    def value(self) -> table.RoutingRecord:
        """Returns the record; prefetch `hosts` for many."""
        rows = list(self.hosts.all())
        return table.RoutingRecord(self.service, [row.host for row in rows], [row.weight for row in rows], self.version)


class RoutingHost(models.Model):
    """A host of a record; positions in the record's list start at 0."""

    record = models.ForeignKey(RoutingRecord, on_delete=models.CASCADE, db_index=False, related_name="hosts")
    position = models.PositiveIntegerField()
    host = models.CharField(max_length=table.MAX_NAME_LENGTH)
    # The validator gives a message at the field; the message of the constraint below would only be its name.
    weight = models.FloatField(validators=[MinValueValidator(0)])

    class Meta:
        ordering = ("record", "position")
        constraints = (
            models.UniqueConstraint(fields=("record", "host"), name="routing_host_once_per_record"),
            models.UniqueConstraint(fields=("record", "position"), name="routing_host_position_once"),
            models.CheckConstraint(condition=models.Q(weight__gte=0), name="routing_host_weight_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.host} ({table.format_weight(self.weight)})"


class RoutingRevision(models.Model):
    """A service's record at one version; a removal is a version, too.

    It has no foreign key, so that it outlives its record: the versions of a service that returns continue.
    """

    service = models.CharField(max_length=table.MAX_NAME_LENGTH)
    version = models.PositiveIntegerField()
    hosts = models.JSONField()
    weights = models.JSONField()
    changed_at = models.DateTimeField(default=timezone.now, db_index=True)
    changed_by = models.CharField(max_length=table.MAX_NAME_LENGTH, blank=True)
    removed = models.BooleanField(default=False)

    class Meta:
        ordering = ("changed_at", "id")
        constraints = (
            models.UniqueConstraint(fields=("service", "version"), name="routing_revision_once"),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="routing_revision_version_from_1"),
        )

    def __str__(self) -> str:
        return f"{self.service} version {self.version}" + (" (removed)" if self.removed else "")

    def value(self) -> table.RoutingRecord:
        """Returns the record at this version; without hosts if the version is a removal."""
        return table.RoutingRecord(self.service, self.hosts, self.weights, self.version)
