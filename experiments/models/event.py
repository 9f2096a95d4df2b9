"""Event: an entry of an experiment's timeline."""

from django.db import models

from experiments.models.experiment import Experiment


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
