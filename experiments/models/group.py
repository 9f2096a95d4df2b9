"""ClientGroup, InteractiveGroup and Shard: the clients of a workload, and the parts that workers run."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Q

from experiments.models.experiment import ENDED_STATUSES, Experiment, Workload
from experiments.models.worker import Worker
from loadgen.protocol.messages import GroupCommand


class GroupState(models.TextChoices):
    HOLD = "hold"
    RUN = "run"
    STOP = "stop"


class OnWorkerLoss(models.TextChoices):
    CONTINUE = "continue"
    REPLACE = "replace"
    FAIL = "fail"


class ShardStatus(models.TextChoices):
    """PENDING → DISPATCHED → READY → RUNNING → FINISHED | STOPPED | FAILED | LOST."""

    PENDING = "PENDING"
    DISPATCHED = "DISPATCHED"
    READY = "READY"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    LOST = "LOST"


# The ends that a shard reports itself; it cannot come back from them.
REPORTED_ENDS = (ShardStatus.FINISHED, ShardStatus.STOPPED, ShardStatus.FAILED)
ENDED_SHARD_STATUSES = (*REPORTED_ENDS, ShardStatus.LOST)


class ClientGroupQuerySet(models.QuerySet["ClientGroup"]):
    def interactive(self) -> ClientGroupQuerySet:
        return self.filter(interactive_part__isnull=False)

    def following(self) -> ClientGroupQuerySet:
        """Interactive groups with shards that have not ended."""
        return self.filter(interactive_part__isnull=False, interactive_part__ended_at=None)

    def open(self) -> ClientGroupQuerySet:
        """Interactive groups that take commands."""
        return self.following().not_stopped()

    def uncleared(self) -> ClientGroupQuerySet:
        """Groups of ended experiments whose last version has not reached Redis."""
        return self.filter(experiment__status__in=ENDED_STATUSES, projected_version__lt=F("version"))

    def not_stopped(self) -> ClientGroupQuerySet:
        return self.exclude(state=GroupState.STOP)


class ClientGroup(models.Model):
    """Clients of one service and one configuration. The row is the truth of the desired state and issues its version;
    `projected_version` is the newest version known to be in Redis.

    A group belongs to an experiment with a plan, or it is interactive (see `InteractiveGroup`); then `experiment` is
    the interactive experiment that records it now, if there is one.
    """

    id = models.CharField(primary_key=True, max_length=40, editable=False)  # <experiment>.<workload>, g-xxxxxx
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, null=True, blank=True, related_name="groups")
    workload = models.OneToOneField(Workload, on_delete=models.CASCADE, related_name="group")
    state = models.CharField(max_length=4, choices=GroupState, default=GroupState.HOLD)
    version = models.PositiveIntegerField(default=1)
    projected_version = models.PositiveIntegerField(default=0)
    total_clients = models.PositiveIntegerField()
    start_broker_ns = models.BigIntegerField(null=True, blank=True)
    on_worker_loss = models.CharField(max_length=8, choices=OnWorkerLoss, default=OnWorkerLoss.CONTINUE)
    created_at = models.DateTimeField()

    objects = ClientGroupQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="group_on_worker_loss_known", condition=Q(on_worker_loss__in=OnWorkerLoss.values)
            ),
            models.CheckConstraint(name="group_state_known", condition=Q(state__in=GroupState.values)),
            models.CheckConstraint(name="group_version_positive", condition=Q(version__gte=1)),
            models.CheckConstraint(
                name="group_runs_from_a_start", condition=~Q(state=GroupState.RUN) | Q(start_broker_ns__isnull=False)
            ),
        ]

    @property
    def interactive(self) -> InteractiveGroup | None:
        """The fields of an interactive group; None for the group of a plan."""
        return getattr(self, "interactive_part", None)

    @property
    def random_seed(self) -> int:
        """Seeds the random sources of its clients, together with their indexes."""
        if self.interactive is not None:
            return self.interactive.seed
        assert self.experiment is not None  # the group of a plan
        return self.experiment.seed

    def __str__(self) -> str:
        return self.id


class InteractiveGroup(models.Model):
    """The fields of a client group that a user commands. Ranges are (begin, end) pairs of client indexes."""

    group = models.OneToOneField(
        ClientGroup, on_delete=models.CASCADE, primary_key=True, related_name="interactive_part"
    )
    creator = models.CharField(max_length=191, blank=True)
    seed = models.BigIntegerField()
    command_fields = models.JSONField(help_text="the current command (fields of messages.GroupCommand)")
    active = models.JSONField(default=list, blank=True, help_text="ranges of the clients that take part")
    pending = models.JSONField(default=list, blank=True, help_text="ranges of the clients whose shards are not ready")
    ended_at = models.DateTimeField(null=True, blank=True, db_index=True, help_text="when all of its shards had ended")

    @property
    def command(self) -> GroupCommand:
        return GroupCommand(**self.command_fields)

    def __str__(self) -> str:
        return self.group_id


class ShardQuerySet(models.QuerySet["Shard"]):
    def not_ended(self) -> ShardQuerySet:
        """Shards that hold a slot of their worker."""
        return self.exclude(status__in=ENDED_SHARD_STATUSES)

    def failed(self) -> ShardQuerySet:
        """Shards that failed or were lost."""
        return self.filter(status__in=(ShardStatus.FAILED, ShardStatus.LOST))

    def attempt_of(self, shard: Shard) -> ShardQuerySet:
        """The row of `shard`, unless it has had another attempt since it was read."""
        return self.filter(id=shard.id, attempt=shard.attempt)

    def move(self, shard: Shard, target: str, **fields: Any) -> bool:
        """Changes the status and attempt that `shard` holds by a conditional UPDATE; returns whether this process, and
        no other, changed it. Then `shard` is up to date."""
        if self.attempt_of(shard).filter(status=shard.status).update(status=target, **fields) != 1:
            return False
        for name, value in {"status": target, **fields}.items():
            setattr(shard, name, value)
        return True


class Shard(models.Model):
    """The part of a group that one task on one worker runs.

    `clients` holds (start, stop, step) ranges. `planned` is computed by the controller from the plan (None in the
    closed model); `totals` (Counters), `batches` and `final_state` come with the final batch. A LOST shard whose
    process is not known to have ended may be out of reach and still running. A shard that is ordered from a label's
    queue has a `worker` as soon as one has taken it.
    """

    group = models.ForeignKey(ClientGroup, on_delete=models.CASCADE, db_index=False, related_name="shards")
    index = models.PositiveIntegerField()
    worker = models.ForeignKey(
        Worker,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="shards",
        help_text="empty: no worker has taken it yet",
    )
    worker_instance = models.CharField(
        max_length=64, blank=True, help_text="the instance of the worker that runs it or is to run it"
    )
    status = models.CharField(max_length=10, choices=ShardStatus, default=ShardStatus.PENDING, db_index=True)
    attempt = models.PositiveIntegerField(default=1)
    clients = models.JSONField()
    missed_since = models.DateTimeField(null=True, blank=True, help_text="since when every check found no lease")
    missed_at = models.DateTimeField(null=True, blank=True, help_text="the last check that found no lease")
    ordered_at = models.DateTimeField(null=True, blank=True)
    process_ended = models.BooleanField(default=False, help_text="lost, and its process is known to have ended")
    final_state = models.CharField(max_length=8, blank=True, help_text="the state in its final batch")
    reason = models.TextField(blank=True)
    clock_offset_ns = models.BigIntegerField(null=True, blank=True)
    clock_uncertainty_ns = models.BigIntegerField(null=True, blank=True)
    descriptor_limit = models.BigIntegerField(default=0)
    planned = models.BigIntegerField(null=True, blank=True)
    totals = models.JSONField(null=True, blank=True)
    client_counts = models.BinaryField(null=True, blank=True, help_text="interactive: see experiments/analysis/live.py")
    batches = models.PositiveIntegerField(null=True, blank=True)

    objects = ShardQuerySet.as_manager()

    class Meta:
        ordering = ["group", "index"]
        constraints = [
            models.UniqueConstraint(name="shard_index_unique", fields=["group", "index"]),
            models.CheckConstraint(name="shard_attempt_positive", condition=Q(attempt__gte=1)),
            models.CheckConstraint(name="shard_status_known", condition=Q(status__in=ShardStatus.values)),
            models.CheckConstraint(
                name="shard_runs_on_a_worker",
                condition=~Q(status__in=[ShardStatus.READY, ShardStatus.RUNNING]) | Q(worker__isnull=False),
            ),
        ]

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED_SHARD_STATUSES

    @property
    def client_indexes(self) -> list[int]:
        return [index for bounds in self.clients for index in range(*bounds)]

    @property
    def place(self) -> str:
        """The worker, or the queue in which its order waits: the end of a sentence."""
        return f"on {self.worker.name}" if self.worker else f"in the queue {self.group.workload.queue}"

    def __str__(self) -> str:
        return f"{self.group_id}/{self.index}"
