"""What the devices told of themselves during an experiment."""

from django.db import models

from experiments.models.experiment import Experiment
from loadgen.protocol.topics import MAX_METRIC, MAX_NODE, MAX_SUBSYSTEM


class TelemetrySample(models.Model):
    """One value of one metric of a node. A series (experiment, metric, node, subsystem) has one value at a time.

    The time is kept in ns, as those of traces are, and so exactly as it was sent: it compares with them without a
    conversion, and not every database has times of less than 1 µs. The key of a series is unique, so that a sample
    that is stored again, by a second daemon or after a commit whose answer was lost, is there once.
    """

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, db_index=False, related_name="telemetry")
    metric = models.CharField(max_length=MAX_METRIC)
    node = models.CharField(max_length=MAX_NODE)
    subsystem = models.CharField(max_length=MAX_SUBSYSTEM, blank=True, help_text="a device, say; empty: the whole node")
    timestamp_ns = models.BigIntegerField(help_text="since the Unix epoch, as it was sent")
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
    """What a node was when the experiment began: in its own words (telemd's), and as a worker's agent says."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, db_index=False, related_name="nodes")
    node = models.CharField(max_length=MAX_NODE)
    info = models.JSONField(default=dict, blank=True, help_text="telemd's hash; empty: it publishes no telemetry")
    worker = models.JSONField(default=dict, blank=True, help_text="empty: it is no worker")

    class Meta:
        ordering = ["experiment", "node"]
        verbose_name, verbose_name_plural = "node", "nodes"
        constraints = [models.UniqueConstraint(name="node_once", fields=["experiment", "node"])]

    def __str__(self) -> str:
        return self.node


class Recording(models.Model):
    """Says that the recorder has taken up an experiment, and what of its telemetry and events is not stored."""

    experiment = models.OneToOneField(Experiment, on_delete=models.CASCADE, primary_key=True, related_name="recording")
    began = models.DateTimeField(help_text="when the recorder first saw it; earlier telemetry is not stored")
    unparsable = models.PositiveBigIntegerField(default=0, help_text="messages that make no sense")
    example = models.TextField(blank=True, help_text="the first of them")
    dropped = models.PositiveBigIntegerField(default=0, help_text="what there was no room for, the database being away")

    class Meta:
        ordering = ["experiment"]

    def __str__(self) -> str:
        return str(self.experiment_id)
