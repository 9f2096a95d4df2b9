"""What the API shows of experiments and workers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from experiments import selectors
from experiments.models import Event, Experiment

# DRF's own classes take no type parameters at run time.
if TYPE_CHECKING:
    TimeField = serializers.Field[datetime, Any, float, Any]
    EventModelSerializer = serializers.ModelSerializer[Event]
    ExperimentModelSerializer = serializers.ModelSerializer[Experiment]
    WorkerLoadSerializer = serializers.Serializer[Any]
else:
    TimeField = serializers.Field
    EventModelSerializer = ExperimentModelSerializer = serializers.ModelSerializer
    WorkerLoadSerializer = serializers.Serializer


class TimestampField(TimeField):
    """Seconds since the Unix epoch, as a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: datetime) -> float:
        return value.timestamp()


class EventSerializer(EventModelSerializer):
    timestamp = TimestampField()

    class Meta:
        model = Event
        fields = ["timestamp", "name", "value"]


class ExperimentSerializer(ExperimentModelSerializer):
    """An experiment in a list: `status` is the original's word, `phase` our own."""

    status = serializers.SerializerMethodField()
    phase = serializers.CharField(source="status", read_only=True)
    created = TimestampField()
    start = TimestampField()
    end = TimestampField()

    class Meta:
        model = Experiment
        fields = ["id", "name", "creator", "status", "phase", "created", "start", "end"]

    def get_status(self, experiment: Experiment) -> str:
        return selectors.word_of(experiment.status)


class ExperimentDetailSerializer(ExperimentSerializer):
    """All of an experiment, its timeline included."""

    events = serializers.SerializerMethodField()
    recording = serializers.SerializerMethodField()

    class Meta(ExperimentSerializer.Meta):
        fields = [
            *ExperimentSerializer.Meta.fields,
            "reason",
            "seed",
            "plan",
            "metadata",
            "tracing",
            "summary",
            "recording",
            "events",
        ]

    def get_recording(self, experiment: Experiment) -> dict[str, Any] | None:
        """What of the telemetry and events is not stored; None when the recorder has not seen the experiment."""
        return selectors.recording(experiment.id)

    def get_events(self, experiment: Experiment) -> list[dict[str, Any]]:
        return list(EventSerializer(selectors.events_of(experiment.id), many=True).data)


class WorkerSerializer(WorkerLoadSerializer):
    """A live worker. Its clock: the broker's minus its monotonic one, known to ± the uncertainty."""

    name = serializers.CharField(source="worker.name")
    status = serializers.CharField(source="worker.status")
    labels = serializers.DictField(source="worker.labels")
    slots = serializers.IntegerField(source="worker.slots")
    used_slots = serializers.IntegerField()
    cores = serializers.IntegerField(source="worker.cores")
    memory_bytes = serializers.IntegerField(source="worker.memory_bytes")
    machine = serializers.CharField(source="worker.machine")
    versions = serializers.DictField(source="worker.versions")
    started = TimestampField(source="worker.started")
    heartbeat = TimestampField(source="worker.heartbeat")
    clock_offset_ns = serializers.IntegerField(source="worker.clock_offset_ns")
    clock_uncertainty_ns = serializers.IntegerField(source="worker.clock_uncertainty_ns")
