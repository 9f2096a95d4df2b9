"""Telemetry and the timeline of an experiment.

Telemetry comes series by series (metric, node, subsystem), each in the order of time: as pages of JSON, or whole as CSV
(`?format=csv`, or `Accept: text/csv`).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.http import HttpResponseBase, StreamingHttpResponse
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.permissions import ModelPermissions
from experiments.api.serializers import EventSerializer
from experiments.api.views import View, unknown_experiment
from experiments.models import Event, Experiment, TelemetrySample
from experiments.services import events
from experiments.services.clock import to_datetime
from loadgen.topics import MAX_EVENT_NAME, MAX_EVENT_VALUE, MAX_NS, is_name

if TYPE_CHECKING:
    PlainSerializer = serializers.Serializer[Any]
    SampleModelSerializer = serializers.ModelSerializer[TelemetrySample]
else:
    PlainSerializer = serializers.Serializer
    SampleModelSerializer = serializers.ModelSerializer

MAX_PAGE = 10_000
PAGE = 1000
COLUMNS = ("timestamp", "metric", "node", "subsystem", "value")
_ROWS_PER_CHUNK = 2000


class CsvRenderer(JSONRenderer):
    """Makes CSV a format that may be asked for. The view streams the rows itself; errors are JSON all the same."""

    media_type = "text/csv"
    format = "csv"


class PageSerializer(PlainSerializer):
    limit = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=PAGE)
    offset = serializers.IntegerField(min_value=0, max_value=2**62, default=0)


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


class TelemetryView(View):
    permission_classes = [ModelPermissions]
    queryset = TelemetrySample.objects.none()
    renderer_classes = [JSONRenderer, CsvRenderer]

    def get(self, request: Request, experiment_id: str) -> HttpResponseBase:
        _existing(experiment_id)
        wanted = _checked(SeriesSerializer, request.query_params.dict())
        limit, offset = wanted.pop("limit"), wanted.pop("offset")
        samples = selectors.telemetry(experiment_id, **wanted)
        if isinstance(request.accepted_renderer, CsvRenderer):
            name = f'attachment; filename="telemetry-{experiment_id}.csv"'
            rows = samples.values_list("timestamp_ns", *COLUMNS[1:]).iterator(_ROWS_PER_CHUNK)
            return StreamingHttpResponse(
                _csv(rows), content_type="text/csv; charset=utf-8", headers={"Content-Disposition": name}
            )
        page = samples[offset : offset + limit]
        return Response(_page(request, samples.count(), limit, offset, SampleSerializer(page, many=True).data))

    def handle_exception(self, exc: Exception) -> Response:
        self.request.accepted_renderer = JSONRenderer()
        self.request.accepted_media_type = JSONRenderer.media_type
        return super().handle_exception(exc)


class EventListView(View):
    permission_classes = [ModelPermissions]
    queryset = Event.objects.none()

    def get(self, request: Request, experiment_id: str) -> Response:
        _existing(experiment_id)
        wanted = _checked(PageSerializer, request.query_params.dict())
        limit, offset = wanted["limit"], wanted["offset"]
        timeline = selectors.timeline(experiment_id)
        page = timeline[offset : offset + limit]
        return Response(_page(request, timeline.count(), limit, offset, EventSerializer(page, many=True).data))

    def post(self, request: Request, experiment_id: str) -> Response:
        """Sets a mark; 409 when the experiment has ended."""
        wanted = _checked(MarkSerializer, request.data)
        timestamp = wanted.get("timestamp")
        at = None if timestamp is None else to_datetime(round(timestamp * 1e9))
        try:
            event = events.mark(experiment_id, wanted["name"], wanted["value"], at)
        except Experiment.DoesNotExist:
            raise unknown_experiment(experiment_id) from None
        except events.ExperimentOver as over:
            return Response({"detail": str(over)}, status.HTTP_409_CONFLICT)
        return Response(EventSerializer(event).data, status.HTTP_201_CREATED)


def _existing(experiment_id: str) -> None:
    if selectors.experiment_status(experiment_id) is None:
        raise unknown_experiment(experiment_id)


def _checked(kind: type[PlainSerializer], data: Any) -> dict[str, Any]:
    """The data as the serializer has it; every wrong and every unknown field is named."""
    serializer = kind(data=data)
    serializer.is_valid()
    errors = [
        {"field": field, "message": str(message)}
        for field, messages in serializer.errors.items()
        for message in messages
    ]
    if isinstance(data, dict):
        known = {*serializer.fields, "format"} if issubclass(kind, PageSerializer) else set(serializer.fields)
        unknown = sorted(set(data) - known)
        errors += [
            {"field": field, "message": f"unknown; there is {', '.join(serializer.fields)}"} for field in unknown
        ]
    if errors:
        raise ValidationError({"errors": errors})
    return dict(serializer.validated_data)


def _page(request: Request, count: int, limit: int, offset: int, results: Any) -> dict[str, Any]:
    """A page with the addresses of those beside it."""

    def address(at: int) -> str:
        parameters = request.query_params.copy()
        parameters["limit"], parameters["offset"] = str(limit), str(at)
        return request.build_absolute_uri(f"{request.path}?{parameters.urlencode()}")

    return {
        "count": count,
        "next": address(offset + limit) if offset + limit < count else None,
        "previous": address(max(0, offset - limit)) if offset else None,
        "results": results,
    }


def _csv(rows: Iterator[tuple[int, str, str, str, float]]) -> Iterator[bytes]:
    """Lines below a line of names, with all digits of the times."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, (timestamp_ns, *rest) in enumerate(rows, 1):
        seconds, ns = divmod(timestamp_ns, 1_000_000_000)
        writer.writerow((f"{seconds}.{ns:09d}", *rest))
        if number % _ROWS_PER_CHUNK == 0:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()
