"""The timeline of an experiment."""

from django.db import models

from experiments.models.experiment import Experiment


class Event(models.Model):
    """Something that happened: a state that was entered, a routing change, a lost worker, a user's mark."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="events")
    timestamp = models.DateTimeField()
    name = models.CharField(max_length=191)
    value = models.TextField(blank=True)
    key = models.CharField(max_length=255, help_text="names the happening, so that it is recorded once")

    class Meta:
        ordering = ["timestamp", "id"]
        constraints = [models.UniqueConstraint(name="event_once", fields=["experiment", "key"])]

    def __str__(self) -> str:
        return f"{self.name} {self.value}".strip()
