"""Client groups, their clients, and the shards that run them."""

from django.db import models
from django.db.models import Q

from experiments.models.experiment import Experiment, Workload
from experiments.models.worker import Worker
from loadgen.protocol.messages import Phase
from loadgen.protocol.request_ids import request_id


class ClientGroup(models.Model):
    """Clients of one service and one configuration. The row is the truth of the desired state and issues its version;
    `projected_version` is the newest one known to be in Redis.

    A group belongs to an experiment with a plan; or it is interactive, does what its user commands (`phase`), and
    `experiment` is the interactive experiment that records it now, if there is one.
    """

    class State(models.TextChoices):
        HOLD = "hold"
        RUN = "run"
        STOP = "stop"

    class OnWorkerLoss(models.TextChoices):
        CONTINUE = "continue"
        REPLACE = "replace"
        FAIL = "fail"

    id = models.CharField(primary_key=True, max_length=40, editable=False)  # <experiment>.<workload>, g-xxxxxx
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, null=True, blank=True, related_name="groups")
    workload = models.OneToOneField(Workload, on_delete=models.CASCADE, related_name="group")
    state = models.CharField(max_length=4, choices=State, default=State.HOLD)
    version = models.PositiveIntegerField(default=1)
    projected_version = models.PositiveIntegerField(default=0)
    total_clients = models.PositiveIntegerField()
    start_broker_ns = models.BigIntegerField(null=True, blank=True)
    on_worker_loss = models.CharField(max_length=8, choices=OnWorkerLoss, default=OnWorkerLoss.CONTINUE)
    created = models.DateTimeField()
    interactive = models.BooleanField(default=False, db_index=True)
    creator = models.CharField(max_length=191, blank=True, help_text="interactive: who spawned it")
    seed = models.BigIntegerField(null=True, blank=True, help_text="interactive; else the experiment's")
    phase = models.JSONField(null=True, blank=True, help_text="interactive: what its clients do (messages.Phase)")
    active = models.JSONField(default=list, blank=True, help_text="interactive: (begin, end) ranges of open clients")
    pending = models.JSONField(default=list, blank=True, help_text="interactive: such ranges of clients to come")
    ended = models.DateTimeField(null=True, blank=True, help_text="interactive: when all of its shards had ended")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="group_commanded_has_a_phase",
                condition=Q(interactive=False) | Q(seed__isnull=False, phase__isnull=False),
            ),
            models.CheckConstraint(
                name="group_on_worker_loss_known", condition=Q(on_worker_loss__in=["continue", "replace", "fail"])
            ),
            models.CheckConstraint(name="group_state_known", condition=Q(state__in=["hold", "run", "stop"])),
            models.CheckConstraint(name="group_version_positive", condition=Q(version__gte=1)),
            models.CheckConstraint(
                name="group_runs_from_a_start", condition=~Q(state="run") | Q(start_broker_ns__isnull=False)
            ),
        ]

    @property
    def random_seed(self) -> int:
        """What its clients' random sources are seeded with, together with their indexes."""
        if self.seed is not None:
            return self.seed
        assert self.experiment is not None  # whose group is not interactive
        return self.experiment.seed

    @property
    def command(self) -> Phase:
        """What the clients of an interactive group do."""
        return Phase(**(self.phase or {}))

    def __str__(self) -> str:
        return self.id


class Shard(models.Model):
    """The part of a group that one task on one worker runs.

    PENDING → DISPATCHED → READY → RUNNING → FINISHED | FAILED | LOST. `clients` holds (start, stop, step) ranges.
    `planned` is computed by the controller from the plan (None in the closed model); `totals` (Counters), `batches` and
    `end` come with the final batch. A LOST shard is either `gone`, or out of reach and perhaps running. One that is
    ordered from a label's queue has a `worker` once one has taken it.
    """

    class Status(models.TextChoices):
        PENDING = "PENDING"
        DISPATCHED = "DISPATCHED"
        READY = "READY"
        RUNNING = "RUNNING"
        FINISHED = "FINISHED"
        FAILED = "FAILED"
        LOST = "LOST"

    ENDED = (Status.FINISHED, Status.FAILED, Status.LOST)

    group = models.ForeignKey(ClientGroup, on_delete=models.CASCADE, related_name="shards")
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
        max_length=64, blank=True, help_text="the worker's instance that it was given to, or that took it"
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING, db_index=True)
    attempt = models.PositiveIntegerField(default=1)
    clients = models.JSONField()
    missed_since = models.DateTimeField(null=True, blank=True, help_text="since when no look has found a lease")
    missed_at = models.DateTimeField(null=True, blank=True, help_text="the last look that found none")
    dispatched = models.DateTimeField(null=True, blank=True)
    gone = models.BooleanField(default=False, help_text="lost, and its process is known to have ended")
    end = models.CharField(max_length=8, blank=True, help_text="how its final batch says that it ended")
    reason = models.TextField(blank=True)
    clock_offset_ns = models.BigIntegerField(null=True, blank=True)
    clock_uncertainty_ns = models.BigIntegerField(null=True, blank=True)
    descriptor_limit = models.BigIntegerField(default=0)
    planned = models.BigIntegerField(null=True, blank=True)
    totals = models.JSONField(null=True, blank=True)
    client_counts = models.BinaryField(
        null=True, blank=True, help_text="interactive: see experiments/analysis/client_counts.py"
    )
    batches = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["group", "index"]
        constraints = [
            models.UniqueConstraint(name="shard_index_unique", fields=["group", "index"]),
            models.CheckConstraint(name="shard_attempt_positive", condition=Q(attempt__gte=1)),
            models.CheckConstraint(
                name="shard_status_known",
                condition=Q(status__in=["PENDING", "DISPATCHED", "READY", "RUNNING", "FINISHED", "FAILED", "LOST"]),
            ),
            models.CheckConstraint(
                name="shard_runs_on_a_worker",
                condition=~Q(status__in=["READY", "RUNNING"]) | Q(worker__isnull=False),
            ),
        ]

    @property
    def place(self) -> str:
        """On which worker it is, or in which queue its order waits: the end of a sentence."""
        return f"on {self.worker.name}" if self.worker else f"in the queue {self.group.workload.queue}"

    def __str__(self) -> str:
        return f"{self.group_id}/{self.index}"


class Client(models.Model):
    """One emulated client; its index is unique in its group and seeds its random source."""

    group = models.ForeignKey(ClientGroup, on_delete=models.CASCADE, related_name="clients")
    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, related_name="client_set")
    index = models.PositiveIntegerField()

    class Meta:
        ordering = ["group", "index"]
        constraints = [models.UniqueConstraint(name="client_index_unique", fields=["group", "index"])]

    @property
    def client_id(self) -> str:
        return f"{self.group_id}.{self.index}"

    def request_id(self, sequence: int) -> str:
        return request_id(self.group_id, self.index, sequence, self.group.workload.spec["request_id_header"])

    def __str__(self) -> str:
        return self.client_id
