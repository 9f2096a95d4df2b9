"""What the API shows of experiments and workers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from experiments import selectors
from experiments.models import Event, Experiment, Worker
from loadgen.protocol.topics import MAX_NS

# DRF's own classes take no type parameters at run time.
if TYPE_CHECKING:
    TimeField = serializers.Field[datetime, Any, float, Any]
    EventModelSerializer = serializers.ModelSerializer[Event]
    ExperimentModelSerializer = serializers.ModelSerializer[Experiment]
    PlainSerializer = serializers.Serializer[Any]
else:
    TimeField = serializers.Field
    EventModelSerializer = ExperimentModelSerializer = serializers.ModelSerializer
    PlainSerializer = serializers.Serializer


@extend_schema_field(OpenApiTypes.DOUBLE)
class TimestampField(TimeField):
    """Seconds since the Unix epoch, as a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: datetime) -> float:
        return value.timestamp()


class TextField(serializers.CharField):
    """Takes no number for a text, as DRF's own field does."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class NumberField(serializers.FloatField):
    """Takes no text and no boolean for a number, as DRF's own field does."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float) or abs(data) > MAX_NS:
            self.fail("invalid")
        return super().to_internal_value(data)


class EventSerializer(EventModelSerializer):
    timestamp = TimestampField()

    class Meta:
        model = Event
        fields = read_only_fields = ["timestamp", "name", "value"]


class ExperimentSerializer(ExperimentModelSerializer):
    """An experiment in a list."""

    status = serializers.SerializerMethodField(help_text="the original's word")
    phase = serializers.ChoiceField(
        Experiment.Status.choices, source="status", read_only=True, help_text="our own word"
    )
    created = TimestampField()
    start = TimestampField(allow_null=True, help_text="the zero of its schedule")
    end = TimestampField(allow_null=True, help_text="when the load ended")

    class Meta:
        model = Experiment
        fields = read_only_fields = ["id", "name", "creator", "status", "phase", "deleting", "created", "start", "end"]

    @extend_schema_field(serializers.ChoiceField(list(selectors.WORDS)))
    def get_status(self, experiment: Experiment) -> str:
        return selectors.word_of(experiment.status)


@extend_schema_field(OpenApiTypes.OBJECT)
class FreeField(serializers.JSONField):
    """A mapping of anything."""


class RecordingSerializer(PlainSerializer):
    """What of the telemetry and events is not stored; null when the recorder has not seen the experiment."""

    unparsable = serializers.IntegerField(help_text="messages that make no sense")
    example = serializers.CharField(help_text="the first of them")
    dropped = serializers.IntegerField(help_text="what there was no room for, the database being away")


class ExperimentDetailSerializer(ExperimentSerializer):
    """All of an experiment, its timeline included."""

    plan = FreeField(read_only=True, help_text="as it was meant, with every default (docs/plans.md)")
    metadata = FreeField(read_only=True)
    summary = FreeField(read_only=True, allow_null=True, help_text="when it has ended (docs/verdict.md)")
    recording = serializers.SerializerMethodField()
    events = serializers.SerializerMethodField(help_text="its timeline")

    class Meta(ExperimentSerializer.Meta):
        fields = read_only_fields = [
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

    @extend_schema_field(RecordingSerializer(allow_null=True))
    def get_recording(self, experiment: Experiment) -> dict[str, Any] | None:
        """What of the telemetry and events is not stored; None when the recorder has not seen the experiment."""
        return selectors.recording(experiment.id)

    @extend_schema_field(EventSerializer(many=True))
    def get_events(self, experiment: Experiment) -> list[dict[str, Any]]:
        return list(EventSerializer(selectors.events_of(experiment.id), many=True).data)


class WorkerSerializer(PlainSerializer):
    """A live worker. Its clock: the broker's minus its monotonic one, known to ± the uncertainty."""

    name = serializers.CharField(source="worker.name")
    status = serializers.ChoiceField(Worker.Status.choices, source="worker.status")
    labels = serializers.DictField(child=serializers.CharField(), source="worker.labels")
    slots = serializers.IntegerField(source="worker.slots")
    used_slots = serializers.IntegerField()
    cores = serializers.IntegerField(source="worker.cores")
    memory_bytes = serializers.IntegerField(source="worker.memory_bytes")
    machine = serializers.CharField(source="worker.machine")
    versions = serializers.DictField(child=serializers.CharField(), source="worker.versions", help_text="of packages")
    started = TimestampField(source="worker.started")
    heartbeat = TimestampField(source="worker.heartbeat")
    clock_offset_ns = serializers.IntegerField(source="worker.clock_offset_ns")
    clock_uncertainty_ns = serializers.IntegerField(source="worker.clock_uncertainty_ns")
