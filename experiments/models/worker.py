"""A worker node, as its agent describes it."""

from django.db import models
from django.db.models import Q


class Worker(models.Model):
    """Upserted from the registry in Redis; LOST when its heartbeat stopped, GONE when it said goodbye."""

    class Status(models.TextChoices):
        READY = "READY"
        DRAINING = "DRAINING"
        LOST = "LOST"
        GONE = "GONE"

    name = models.CharField(max_length=63, unique=True)
    status = models.CharField(max_length=8, choices=Status, default=Status.READY)
    missed_since = models.DateTimeField(null=True, blank=True, help_text="since when no look has found a heartbeat")
    missed_at = models.DateTimeField(null=True, blank=True, help_text="the last look that found none")
    instance = models.CharField(max_length=64, help_text="new for each start of the worker")
    labels = models.JSONField(default=dict, blank=True)
    slots = models.PositiveIntegerField()
    cores = models.PositiveIntegerField()
    memory_bytes = models.BigIntegerField()
    machine = models.CharField(max_length=32)
    hostname = models.CharField(max_length=255)
    versions = models.JSONField(default=dict, blank=True)
    started = models.DateTimeField()
    heartbeat = models.DateTimeField(help_text="in the broker's clock")
    clock_offset_ns = models.BigIntegerField(help_text="broker's clock minus the worker's monotonic clock")
    clock_uncertainty_ns = models.BigIntegerField()
    spool_bytes = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="worker_status_known", condition=Q(status__in=["READY", "DRAINING", "LOST", "GONE"])
            ),
            models.CheckConstraint(name="worker_has_slots", condition=Q(slots__gte=1)),
        ]

    def __str__(self) -> str:
        return self.name
