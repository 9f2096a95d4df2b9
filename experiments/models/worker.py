"""Worker: a node that runs shards, as its agent describes it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class WorkerStatus(models.TextChoices):
    """LOST: its heartbeat stopped. GONE: it signed off."""

    READY = "READY"
    DRAINING = "DRAINING"
    LOST = "LOST"
    GONE = "GONE"


LIVE_WORKER_STATUSES = (WorkerStatus.READY, WorkerStatus.DRAINING)


class WorkerQuerySet(models.QuerySet["Worker"]):
    def ready(self) -> WorkerQuerySet:
        """Workers that take new shards."""
        return self.filter(status=WorkerStatus.READY)

    def live(self) -> WorkerQuerySet:
        """Workers with a current heartbeat, draining ones included."""
        return self.filter(status__in=LIVE_WORKER_STATUSES)


class Worker(models.Model):
    """Updated from the registry in Redis."""

    name = models.CharField(max_length=63, unique=True)
    status = models.CharField(max_length=8, choices=WorkerStatus, default=WorkerStatus.READY)
    missed_since = models.DateTimeField(null=True, blank=True, help_text="since when every check found no heartbeat")
    missed_at = models.DateTimeField(null=True, blank=True, help_text="the last check that found no heartbeat")
    instance = models.CharField(max_length=64, help_text="new for each start of the worker")
    labels = models.JSONField(default=dict, blank=True)
    slots = models.PositiveIntegerField()
    cores = models.PositiveIntegerField()
    memory_bytes = models.BigIntegerField()
    machine = models.CharField(max_length=32)
    hostname = models.CharField(max_length=255)
    versions = models.JSONField(default=dict, blank=True)
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField(help_text="in the broker's clock")
    clock_offset_ns = models.BigIntegerField(help_text="broker's clock minus the worker's monotonic clock")
    clock_uncertainty_ns = models.BigIntegerField()
    spool_bytes = models.BigIntegerField(default=0)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(name="worker_status_known", condition=Q(status__in=WorkerStatus.values)),
            models.CheckConstraint(name="worker_has_slots", condition=Q(slots__gte=1)),
        ]

    @property
    def is_live(self) -> bool:
        return self.status in LIVE_WORKER_STATUSES

    def __str__(self) -> str:
        return self.name
