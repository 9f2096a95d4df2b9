"""An experiment and its workloads."""

from django.db import models
from django.db.models import F, Q

from experiments.plans.workload import BALANCED, PLACEMENTS, QUEUE
from loadgen.protocol.keys import label_queue


class Experiment(models.Model):
    """One run of a plan.

    QUEUED → STARTING → RUNNING → FINALIZING → FINISHED | FAILED | CANCELLED. `ending` is the end that FINALIZING leads
    to. Moved only by experiments/services, each step one conditional UPDATE.
    """

    class Status(models.TextChoices):
        QUEUED = "QUEUED"
        STARTING = "STARTING"
        RUNNING = "RUNNING"
        FINALIZING = "FINALIZING"
        FINISHED = "FINISHED"
        FAILED = "FAILED"
        CANCELLED = "CANCELLED"

    ENDED = (Status.FINISHED, Status.FAILED, Status.CANCELLED)
    ACTIVE = (Status.STARTING, Status.RUNNING, Status.FINALIZING)

    id = models.CharField(primary_key=True, max_length=24, editable=False)  # YYYYMMDDHHMM-xxxx
    name = models.CharField(max_length=191)
    creator = models.CharField(max_length=191)
    status = models.CharField(max_length=12, choices=Status, default=Status.QUEUED, db_index=True)
    ending = models.CharField(max_length=12, choices=[(end, end) for end in ENDED], blank=True)
    reason = models.TextField(blank=True, help_text="why it failed or was cancelled")
    created = models.DateTimeField()
    starting = models.DateTimeField(null=True, blank=True, help_text="when it left the queue")
    start = models.DateTimeField(null=True, blank=True, help_text="the zero of its schedule")
    end = models.DateTimeField(null=True, blank=True, db_index=True, help_text="when the load ended")
    finalizing = models.DateTimeField(null=True, blank=True)
    start_broker_ns = models.BigIntegerField(
        null=True, blank=True, help_text="the zero of its schedule in the broker's clock"
    )
    seed = models.BigIntegerField()
    plan = models.JSONField(default=dict)
    metadata = models.JSONField(default=dict, blank=True)
    interactive = models.BooleanField(default=False, help_text="it has no plan: it records what its user does")
    tracing = models.BooleanField(default=True, help_text="whether its traces are stored, or only their statistics")
    renewed = models.DateTimeField(
        null=True, blank=True, help_text="interactive: when its user's session last said that it lives"
    )
    summary = models.JSONField(null=True, blank=True)
    summary_stale = models.BooleanField(
        default=False, editable=False, db_index=True, help_text="a batch came after the summary"
    )
    deleting = models.BooleanField(
        default=False, editable=False, db_index=True, help_text="it is removed as soon as its load has ended"
    )
    ticket = models.CharField(
        max_length=32, null=True, editable=False, help_text="of the instruction that it was made from"
    )

    class Meta:
        ordering = ["-created", "-id"]
        constraints = [
            models.CheckConstraint(
                name="experiment_status_known",
                condition=Q(
                    status__in=[
                        "QUEUED",
                        "STARTING",
                        "RUNNING",
                        "FINALIZING",
                        "FINISHED",
                        "FAILED",
                        "CANCELLED",
                    ]
                ),
            ),
            models.CheckConstraint(
                name="experiment_ending_known",
                condition=Q(ending__in=["", "FINISHED", "FAILED", "CANCELLED"]),
            ),
            models.UniqueConstraint(name="experiment_ticket_once", fields=["ticket"]),
            models.CheckConstraint(name="experiment_seed_not_negative", condition=Q(seed__gte=0)),
            models.CheckConstraint(
                name="experiment_end_after_start",
                condition=Q(end__isnull=True) | Q(start__isnull=True) | Q(end__gte=F("start")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.name}"


class Workload(models.Model):
    """What one service gets in an experiment, or from an interactive group; `spec` holds the fields of
    loadgen.protocol.messages.WorkloadSpec.

    An interactive experiment has a copy of the workload of each group that it records.
    """

    experiment = models.ForeignKey(
        Experiment, on_delete=models.CASCADE, null=True, blank=True, related_name="workloads"
    )
    index = models.PositiveIntegerField()
    service = models.CharField(max_length=191)
    clients = models.PositiveIntegerField()
    worker_labels = models.JSONField(default=dict, blank=True)
    placement = models.CharField(max_length=8, choices=[(policy, policy) for policy in PLACEMENTS], default=BALANCED)
    shards_per_worker = models.PositiveIntegerField(null=True, blank=True, help_text="empty: as many as the load needs")
    shards = models.PositiveIntegerField(null=True, blank=True, help_text="placement queue: how many there are")
    spec = models.JSONField()

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
