"""Batch, Trace, Capture, SecondStats: written by ingest alone, each batch in one transaction."""

from django.db import models

from experiments.models.experiment import Experiment
from experiments.models.group import Shard

ROW_BITS = 32


def trace_key(shard_id: int, row: int) -> int:
    """Returns a trace's primary key: the shard's id in the high bits, the row number in the low ones."""
    return shard_id << ROW_BITS | row


class Batch(models.Model):
    """A stored trace batch; `counters` and `gauges` come from its header.

    A batch of an interactive group that no experiment recorded has no experiment and no traces. The rows of a batch
    that is not `traced` are in the statistics only.
    """

    # No constraint: ingest would wait for the process that has locked the experiment's row.
    experiment = models.ForeignKey(
        Experiment, on_delete=models.SET_NULL, null=True, db_constraint=False, related_name="batches"
    )
    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, db_index=False, related_name="batch_set")
    attempt = models.PositiveIntegerField()
    number = models.PositiveIntegerField()
    version = models.PositiveBigIntegerField(default=0, help_text="of the group's document that the shard had applied")
    traced = models.BooleanField(default=True, help_text="whether its rows are stored")
    rows = models.PositiveIntegerField()
    received_at = models.DateTimeField()
    counters = models.JSONField()
    gauges = models.JSONField()

    class Meta:
        ordering = ["shard", "attempt", "number"]
        verbose_name, verbose_name_plural = "trace batch", "trace batches"
        constraints = [models.UniqueConstraint(name="batch_once", fields=["shard", "attempt", "number"])]

    def __str__(self) -> str:
        return f"{self.shard_id}.{self.attempt}.{self.number}"


class Trace(models.Model):
    """The outcome of one planned arrival.

    `id` is computed by `trace_key`. Times are ns in the broker's clock, null for steps that did not happen. There is no
    foreign-key constraint because PostgreSQL stores the table in partitions by experiment, with the key
    (id, experiment_id); see services/partitions.py.
    """

    id = models.BigAutoField(primary_key=True)
    experiment = models.ForeignKey(Experiment, on_delete=models.DO_NOTHING, db_constraint=False, related_name="traces")
    shard = models.ForeignKey(
        Shard, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="traces"
    )
    client = models.PositiveIntegerField(help_text="index in its group")
    sequence = models.BigIntegerField(help_text="number of the client's arrival, from 0")
    intended_ns = models.BigIntegerField()
    dispatched_ns = models.BigIntegerField(null=True)
    sent_ns = models.BigIntegerField(null=True)
    done_ns = models.BigIntegerField(null=True)
    outcome = models.PositiveSmallIntegerField(help_text="loadgen.protocol.outcomes.Outcome")
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status")
    host = models.CharField(max_length=255, blank=True)
    size = models.BigIntegerField(help_text="bytes of the response's body")
    routing_version = models.PositiveIntegerField()
    reason = models.PositiveSmallIntegerField(
        default=0, help_text="why the response is malformed: loadgen.protocol.outcomes.MalformedReason"
    )
    resent = models.PositiveSmallIntegerField(default=0, help_text="1 if the request was sent a second time")
    address = models.CharField(max_length=64, blank=True, default="", help_text="behind the host's name")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.shard_id}/{self.client}.{self.sequence}"


class Capture(models.Model):
    """The bytes of a request and its response, cut off at the workload's `capture_bytes`; `id` is the trace's id."""

    id = models.BigAutoField(primary_key=True)
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="captures")
    request = models.BinaryField()
    response = models.BinaryField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return str(self.id)


class SecondStats(models.Model):
    """Arrivals of one shard whose intended time lies in one second of the broker's clock (`second`, since the epoch),
    apart for arrivals with rows (`traced`) and without.

    `outcomes` maps Outcome codes to counts, `reasons` those of MalformedReason, `hosts` maps a host to {"sent": n,
    "completed": n}, `addresses` a host with a name to {address: sent}. `routed` is filled for arrivals without
    rows: it maps a routing version to {host: arrivals routed there}. The histograms merge by adding their counts
    (experiments/analysis/histogram.py; relative error at most 1 %).
    """

    # No constraint: ingest would wait for the process that has locked the experiment's row.
    experiment = models.ForeignKey(
        Experiment, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="seconds"
    )
    # No constraint either, and no cascade, as both would search the table by shard: the experiment's cascade suffices.
    shard = models.ForeignKey(
        Shard, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="seconds"
    )
    workload = models.PositiveIntegerField(help_text="index in the plan")
    second = models.BigIntegerField()
    traced = models.BooleanField(default=True, help_text="whether these arrivals have rows")
    arrivals = models.PositiveIntegerField()
    sent = models.PositiveIntegerField()
    completed = models.PositiveIntegerField()
    resent = models.PositiveIntegerField(default=0)
    outcomes = models.JSONField()
    reasons = models.JSONField(default=dict)
    statuses = models.JSONField()
    hosts = models.JSONField()
    addresses = models.JSONField(default=dict)
    routed = models.JSONField(default=dict)
    size = models.BigIntegerField()
    response_time = models.BinaryField()
    service_time = models.BinaryField()
    lateness = models.BinaryField()
    connection_wait = models.BinaryField()

    class Meta:
        ordering = ["experiment", "second", "shard"]
        verbose_name, verbose_name_plural = "statistics of a second", "statistics per second"
        constraints = [
            models.UniqueConstraint(
                name="second_once_per_shard", fields=["experiment", "shard", "second", "workload", "traced"]
            )
        ]

    def __str__(self) -> str:
        return f"{self.shard_id}@{self.second}"
