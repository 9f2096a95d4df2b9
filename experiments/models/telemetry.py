"""TelemetrySample, NodeInfo, Recording: the telemetry of an experiment."""

from django.db import models

from experiments.models.experiment import Experiment
from loadgen.protocol.topics import MAX_METRIC, MAX_NODE, MAX_SUBSYSTEM


class TelemetrySample(models.Model):
    """One value of one metric of a node. A series (experiment, metric, node, subsystem) has one value at a time.

    The time is in ns, as the times of traces are, because not every database stores less than 1 µs. The unique key
    keeps a sample from being stored twice, by a second daemon or after a commit whose answer was lost.
    """

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, db_index=False, related_name="telemetry")
    metric = models.CharField(max_length=MAX_METRIC)
    node = models.CharField(max_length=MAX_NODE)
    subsystem = models.CharField(
        max_length=MAX_SUBSYSTEM, blank=True, help_text="for example a device; empty: the whole node"
    )
    timestamp_ns = models.BigIntegerField(help_text="since the Unix epoch")
    value = models.FloatField()

    class Meta:
        ordering = ["experiment", "metric", "node", "subsystem", "timestamp_ns"]
        constraints = [
            models.UniqueConstraint(
                name="telemetry_once", fields=["experiment", "metric", "node", "subsystem", "timestamp_ns"]
            )
        ]

    def __str__(self) -> str:
        subsystem = f"/{self.subsystem}" if self.subsystem else ""
        return f"{self.node}/{self.metric}{subsystem}"


class NodeInfo(models.Model):
    """A node as it was when the experiment began, as described by telemd and by the worker's agent."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, db_index=False, related_name="nodes")
    node = models.CharField(max_length=MAX_NODE)
    info = models.JSONField(
        default=dict, blank=True, help_text="the hash that telemd published; empty: the node publishes no telemetry"
    )
    worker = models.JSONField(default=dict, blank=True, help_text="empty: the node is not a worker")

    class Meta:
        ordering = ["experiment", "node"]
        verbose_name, verbose_name_plural = "node", "nodes"
        constraints = [models.UniqueConstraint(name="node_once", fields=["experiment", "node"])]

    def __str__(self) -> str:
        return self.node


class Recording(models.Model):
    """The recorder has begun to record an experiment; counts of the messages that it could not store."""

    experiment = models.OneToOneField(Experiment, on_delete=models.CASCADE, primary_key=True, related_name="recording")
    began_at = models.DateTimeField(help_text="earlier telemetry is not stored")
    unparsable = models.PositiveBigIntegerField(default=0, help_text="messages that could not be parsed")
    example = models.TextField(blank=True, help_text="the first message that could not be parsed")
    dropped = models.PositiveBigIntegerField(
        default=0, help_text="messages dropped because the buffer was full while the database was unavailable"
    )

    class Meta:
        ordering = ["experiment"]

    def __str__(self) -> str:
        return str(self.experiment_id)
