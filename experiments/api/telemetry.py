"""Telemetry and the timeline of an experiment.

Telemetry comes series by series (metric, node, subsystem), each in the order of time: as pages of JSON, or whole as CSV
(`?format=csv`, or `Accept: text/csv`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from django.http import HttpResponseBase
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.pages import (
    ROWS_PER_CHUNK,
    PageSerializer,
    PlainSerializer,
    TableView,
    check_exists,
    checked,
    csv_stream,
    exact_seconds,
    page,
)
from experiments.api.permissions import ModelPermissions
from experiments.api.serializers import EventSerializer
from experiments.api.views import View, unknown_experiment
from experiments.models import Event, Experiment, TelemetrySample
from experiments.services import events
from experiments.services.clock import to_datetime
from loadgen.topics import MAX_EVENT_NAME, MAX_EVENT_VALUE, MAX_NS, is_name

if TYPE_CHECKING:
    SampleModelSerializer = serializers.ModelSerializer[TelemetrySample]
else:
    SampleModelSerializer = serializers.ModelSerializer

COLUMNS = ("timestamp", "metric", "node", "subsystem", "value")


class SeriesSerializer(PageSerializer):
    """Which series, each filter being exact; an empty subsystem means the whole node."""

    node = serializers.CharField(required=False)
    metric = serializers.CharField(required=False)
    subsystem = serializers.CharField(required=False, allow_blank=True)


class SampleSerializer(SampleModelSerializer):
    timestamp = serializers.SerializerMethodField()

    class Meta:
        model = TelemetrySample
        fields = COLUMNS

    def get_timestamp(self, sample: TelemetrySample) -> float:
        return sample.timestamp_ns / 1e9


class MarkSerializer(PlainSerializer):
    """A mark for the timeline; its time, in seconds since the Unix epoch, is now by default."""

    name = serializers.CharField(max_length=MAX_EVENT_NAME)
    value = serializers.CharField(max_length=MAX_EVENT_VALUE, allow_blank=True, default="", trim_whitespace=False)
    timestamp = serializers.FloatField(required=False)

    def validate_name(self, name: str) -> str:
        if not is_name(name, MAX_EVENT_NAME):
            raise serializers.ValidationError("Printable characters are needed.")
        return name

    def validate_timestamp(self, timestamp: float) -> float:
        if not (math.isfinite(timestamp) and 0 <= timestamp * 1e9 <= MAX_NS):
            raise serializers.ValidationError("Seconds since the Unix epoch are needed.")
        return timestamp


class TelemetryView(TableView):
    permission_classes = [ModelPermissions]
    queryset = TelemetrySample.objects.none()

    def get(self, request: Request, experiment_id: str) -> HttpResponseBase:
        check_exists(experiment_id)
        wanted = checked(SeriesSerializer, request.query_params.dict())
        limit, offset = wanted.pop("limit"), wanted.pop("offset")
        samples = selectors.telemetry(experiment_id, **wanted)
        if self.wants_csv(request):
            rows = samples.values_list("timestamp_ns", *COLUMNS[1:]).iterator(ROWS_PER_CHUNK)
            exact = ((exact_seconds(timestamp_ns), *rest) for timestamp_ns, *rest in rows)
            return csv_stream(f"telemetry-{experiment_id}", COLUMNS, exact)
        listed = SampleSerializer(samples[offset : offset + limit], many=True).data
        return Response(page(request, samples.count(), limit, offset, listed))


class EventListView(View):
    permission_classes = [ModelPermissions]
    queryset = Event.objects.none()

    def get(self, request: Request, experiment_id: str) -> Response:
        check_exists(experiment_id)
        wanted = checked(PageSerializer, request.query_params.dict())
        limit, offset = wanted["limit"], wanted["offset"]
        timeline = selectors.timeline(experiment_id)
        listed = EventSerializer(timeline[offset : offset + limit], many=True).data
        return Response(page(request, timeline.count(), limit, offset, listed))

    def post(self, request: Request, experiment_id: str) -> Response:
        """Sets a mark; 409 when the experiment has ended."""
        wanted = checked(MarkSerializer, request.data)
        timestamp = wanted.get("timestamp")
        at = None if timestamp is None else to_datetime(round(timestamp * 1e9))
        try:
            event = events.mark(experiment_id, wanted["name"], wanted["value"], at)
        except Experiment.DoesNotExist:
            raise unknown_experiment(experiment_id) from None
        except events.ExperimentOver as over:
            return Response({"detail": str(over)}, status.HTTP_409_CONFLICT)
        return Response(EventSerializer(event).data, status.HTTP_201_CREATED)
