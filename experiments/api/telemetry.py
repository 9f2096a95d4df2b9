"""Telemetry and the timeline of an experiment.

Telemetry is ordered by series (metric, node, subsystem), and by time in each: pages of JSON, or all of it as CSV.
"""

from __future__ import annotations

import math

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.base import JSON, TableView, View, counted_page_of, experiment_status, page
from experiments.api.parsing import parse_body, parse_query
from experiments.api.schema import problem
from experiments.api.serializers import (
    EventSerializer,
    FilterField,
    FormatSerializer,
    ModelSerializer,
    NumberField,
    PageSerializer,
    PlainSerializer,
    TextField,
)
from experiments.downloads import CSV, csv_download, exact_seconds
from experiments.models import Event, TelemetrySample
from experiments.services import events
from experiments.services.broker import to_datetime
from loadgen.protocol.topics import MAX_EVENT_NAME, MAX_EVENT_VALUE, MAX_NS, is_name

COLUMNS = ("timestamp", "metric", "node", "subsystem", "value")


class TelemetryQuerySerializer(PageSerializer, FormatSerializer):
    """Filters of the series; each is an exact match."""

    node = FilterField()
    metric = FilterField()
    subsystem = FilterField(allow_blank=True, help_text="empty: metrics of the whole node")


class SampleSerializer(ModelSerializer):
    timestamp = serializers.SerializerMethodField(help_text="seconds since the Unix epoch")

    class Meta:
        model = TelemetrySample
        fields = read_only_fields = COLUMNS

    def get_timestamp(self, sample: TelemetrySample) -> float:
        return sample.timestamp_ns / 1e9


class MarkSerializer(PlainSerializer):
    """A mark for the timeline. `timestamp` is in seconds since the Unix epoch; default: now."""

    name = TextField(min_length=1, max_length=MAX_EVENT_NAME, help_text="printable characters")
    value = TextField(max_length=MAX_EVENT_VALUE, allow_blank=True, default="", trim_whitespace=False)
    timestamp = NumberField(required=False)

    def validate_name(self, name: str) -> str:
        if not is_name(name, MAX_EVENT_NAME):
            raise serializers.ValidationError("Only printable characters are allowed.")
        return name

    def validate_timestamp(self, timestamp: float) -> float:
        if not (math.isfinite(timestamp) and 0 <= timestamp * 1e9 <= MAX_NS):
            raise serializers.ValidationError("Must be in seconds since the Unix epoch.", "max_value")
        return timestamp


class TelemetryView(TableView):
    queryset = TelemetrySample.objects.none()

    @extend_schema(
        parameters=[TelemetryQuerySerializer],
        responses={(200, JSON): counted_page_of(SampleSerializer), (200, CSV): str},
    )
    def get(self, request: Request, experiment_id: str) -> HttpResponseBase:
        """Lists the telemetry of an experiment, series by series, as pages of JSON or all of it as CSV."""
        experiment_status(experiment_id)
        query = parse_query(request, TelemetryQuerySerializer)
        query.pop("format", None)
        limit, offset = query.pop("limit"), query.pop("offset")
        if self.wants_csv(request):
            samples = selectors.samples(experiment_id, **query)
            rows = ((exact_seconds(timestamp_ns), *rest) for timestamp_ns, *rest in samples)
            return csv_download(request, f"telemetry-{experiment_id}", COLUMNS, rows)
        return page(request, selectors.telemetry(experiment_id, **query), SampleSerializer, limit, offset)


class EventListView(View):
    queryset = Event.objects.none()

    @extend_schema(parameters=[PageSerializer], responses=counted_page_of(EventSerializer))
    def get(self, request: Request, experiment_id: str) -> Response:
        """Lists the timeline of an experiment, oldest first."""
        experiment_status(experiment_id)
        query = parse_query(request, PageSerializer)
        return page(request, selectors.timeline(experiment_id), EventSerializer, **query)

    @extend_schema(request=MarkSerializer, responses={201: EventSerializer} | problem(409, "The experiment has ended."))
    def post(self, request: Request, experiment_id: str) -> Response:
        """Adds a mark to the timeline of an experiment."""
        mark = parse_body(request.data, MarkSerializer)
        timestamp = mark.get("timestamp")
        at = None if timestamp is None else to_datetime(round(timestamp * 1e9))
        event = events.mark(experiment_id, mark["name"], mark["value"], at)
        return Response(EventSerializer(event).data, status.HTTP_201_CREATED)
