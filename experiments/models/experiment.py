"""Experiment, Workload and Event: one run of a plan, the load on each of its services, and its timeline."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import F, Q

from experiments.plans.workload import BALANCED, PLACEMENTS, QUEUE
from loadgen.protocol.keys import label_queue


class ExperimentStatus(models.TextChoices):
    """QUEUED → STARTING → RUNNING → FINALIZING → FINISHED | FAILED | CANCELLED."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    FINALIZING = "FINALIZING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ACTIVE_STATUSES = (ExperimentStatus.STARTING, ExperimentStatus.RUNNING, ExperimentStatus.FINALIZING)
ENDED_STATUSES = (ExperimentStatus.FINISHED, ExperimentStatus.FAILED, ExperimentStatus.CANCELLED)


class ExperimentQuerySet(models.QuerySet["Experiment"]):
    def oldest_first(self) -> ExperimentQuerySet:
        return self.order_by("created_at", "id")

    def queued(self) -> ExperimentQuerySet:
        return self.filter(status=ExperimentStatus.QUEUED)

    def active(self) -> ExperimentQuerySet:
        """Experiments that have left the queue and have not ended."""
        return self.filter(status__in=ACTIVE_STATUSES)

    def active_between(self, first: datetime, last: datetime) -> ExperimentQuerySet:
        """Experiments that were active at some time from `first` to `last`."""
        return self.filter(Q(status__in=ACTIVE_STATUSES) | Q(ended_at__gte=first), starting_at__lte=last)

    def ended(self) -> ExperimentQuerySet:
        return self.filter(status__in=ENDED_STATUSES)

    def not_ended(self) -> ExperimentQuerySet:
        return self.exclude(status__in=ENDED_STATUSES)

    def running_interactive(self) -> ExperimentQuerySet:
        return self.filter(status=ExperimentStatus.RUNNING, interactive=True)

    def to_delete(self) -> ExperimentQuerySet:
        """Experiments that are removed as soon as their load has ended."""
        return self.filter(deletion_requested=True)

    def with_stale_summary(self) -> ExperimentQuerySet:
        return self.ended().filter(summary_stale=True)

    def move(self, experiment_id: str, source: str, target: str, **fields: Any) -> bool:
        """Changes one status by a conditional UPDATE; returns whether this process, and no other, changed it."""
        return self.filter(id=experiment_id, status=source).update(status=target, **fields) == 1

    def without_documents(self) -> ExperimentQuerySet:
        """Leaves the large columns in the database until they are read."""
        return self.defer("plan", "metadata", "summary")


class Experiment(models.Model):
    """One run of a plan. Only experiments/services writes it; each change of status is one conditional UPDATE."""

    id = models.CharField(primary_key=True, max_length=24, editable=False)  # YYYYMMDDHHMM-xxxx
    name = models.CharField(max_length=191)
    creator = models.CharField(max_length=191)
    status = models.CharField(max_length=12, choices=ExperimentStatus, default=ExperimentStatus.QUEUED, db_index=True)
    final_status = models.CharField(
        max_length=12,
        choices=[(status, status) for status in ENDED_STATUSES],
        blank=True,
        help_text="the status that FINALIZING leads to",
    )
    reason = models.TextField(blank=True, help_text="why it failed or was cancelled")
    stop_requested_at = models.DateTimeField(
        null=True, blank=True, help_text="when a user asked for its end; written after the stop was put in Redis"
    )
    created_at = models.DateTimeField()
    starting_at = models.DateTimeField(null=True, blank=True, help_text="when it left the queue")
    started_at = models.DateTimeField(null=True, blank=True, help_text="the zero of its schedule")
    ended_at = models.DateTimeField(null=True, blank=True, db_index=True, help_text="when the load ended")
    finalizing_at = models.DateTimeField(null=True, blank=True)
    start_broker_ns = models.BigIntegerField(
        null=True, blank=True, help_text="the zero of its schedule in the broker's clock"
    )
    seed = models.BigIntegerField()
    plan = models.JSONField(default=dict)
    metadata = models.JSONField(default=dict, blank=True)
    interactive = models.BooleanField(default=False, help_text="records interactive client groups; has no plan")
    tracing = models.BooleanField(default=True, help_text="whether traces are stored, or only their statistics")
    clocks = models.JSONField(
        default=dict,
        blank=True,
        editable=False,
        help_text="interactive: at its start, worker → its instance and the offset of its clock in ns",
    )
    renewed_at = models.DateTimeField(
        null=True, blank=True, help_text="interactive: when its user's session last renewed it"
    )
    summary = models.JSONField(null=True, blank=True)
    summary_stale = models.BooleanField(
        default=False, editable=False, db_index=True, help_text="a batch came after the summary"
    )
    deletion_requested = models.BooleanField(
        default=False, editable=False, db_index=True, help_text="removed as soon as its load has ended"
    )
    instruction_id = models.CharField(
        max_length=32, null=True, editable=False, help_text="id of the instruction that created it"
    )

    objects = ExperimentQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(name="experiment_status_known", condition=Q(status__in=ExperimentStatus.values)),
            models.CheckConstraint(
                name="experiment_final_status_known", condition=Q(final_status__in=["", *ENDED_STATUSES])
            ),
            models.UniqueConstraint(name="experiment_instruction_once", fields=["instruction_id"]),
            models.CheckConstraint(name="experiment_seed_not_negative", condition=Q(seed__gte=0)),
            models.CheckConstraint(
                name="experiment_end_after_start",
                condition=Q(ended_at__isnull=True) | Q(started_at__isnull=True) | Q(ended_at__gte=F("started_at")),
            ),
        ]

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED_STATUSES

    def __str__(self) -> str:
        return f"{self.id} {self.name}"


class WorkloadQuerySet(models.QuerySet["Workload"]):
    def not_ended(self) -> WorkloadQuerySet:
        """Workloads whose experiment or interactive group has not ended."""
        open_groups = self.exclude(experiment=None, group__interactive_part__ended_at__isnull=False)
        return open_groups.exclude(experiment__status__in=ENDED_STATUSES)


class Workload(models.Model):
    """The load that one service gets from an experiment or from an interactive group.

    `spec` holds the fields of loadgen.protocol.messages.WorkloadSpec. An interactive experiment has a copy of the
    workload of each group that it records.
    """

    experiment = models.ForeignKey(
        Experiment, on_delete=models.CASCADE, null=True, blank=True, db_index=False, related_name="workloads"
    )
    index = models.PositiveIntegerField()
    service = models.CharField(max_length=191)
    clients = models.PositiveIntegerField()
    worker_labels = models.JSONField(default=dict, blank=True)
    placement = models.CharField(max_length=8, choices=[(policy, policy) for policy in PLACEMENTS], default=BALANCED)
    shards_per_worker = models.PositiveIntegerField(null=True, blank=True, help_text="empty: as many as the load needs")
    shards = models.PositiveIntegerField(null=True, blank=True, help_text="placement queue: the number of shards")
    spec = models.JSONField()

    objects = WorkloadQuerySet.as_manager()

    class Meta:
        ordering = ["experiment", "index"]
        constraints = [
            models.UniqueConstraint(name="workload_index_unique", fields=["experiment", "index"]),
            models.CheckConstraint(name="workload_has_clients", condition=Q(clients__gte=1)),
            models.CheckConstraint(
                name="workload_shards_positive",
                condition=Q(shards_per_worker__isnull=True) | Q(shards_per_worker__gte=1),
            ),
            models.CheckConstraint(
                name="workload_shards_as_placed",
                condition=Q(placement=BALANCED, shards__isnull=True)
                | Q(placement=QUEUE, shards__isnull=False, shards__gte=1),
            ),
        ]

    @property
    def queue(self) -> str | None:
        """The label's queue that its shards are ordered from; None: each from the queue of its own worker."""
        if self.placement != QUEUE:
            return None
        ((label, value),) = self.worker_labels.items()
        return label_queue(label, value)

    def __str__(self) -> str:
        return f"{self.experiment_id or 'interactive'} {self.service}"


class Event(models.Model):
    """An entry of the timeline: a change of status, a routing change, a lost shard, or a user's mark."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, db_index=False, related_name="events")
    timestamp = models.DateTimeField()
    name = models.CharField(max_length=191)
    value = models.TextField(blank=True)
    key = models.CharField(max_length=255, help_text="unique within the experiment, so that an event is recorded once")

    class Meta:
        ordering = ["timestamp", "id"]
        constraints = [models.UniqueConstraint(name="event_once", fields=["experiment", "key"])]

    def __str__(self) -> str:
        return f"{self.name} {self.value}".strip()
