"""The traces of an experiment, as pages of JSON or all of them as CSV, and captured messages, as pages."""

from __future__ import annotations

import base64

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.analysis import traces
from experiments.analysis.traces import COLUMNS, TIMES
from experiments.api.base import JSON, TableView, View, address, experiment_of, page_of
from experiments.api.parsing import parse_query
from experiments.api.serializers import FilterField, FormatSerializer, LimitSerializer, PlainSerializer, WholeField
from experiments.downloads import CSV, csv_download, exact_seconds
from experiments.models import Capture, Trace
from loadgen.protocol.outcomes import MalformedReason, Outcome
from loadgen.protocol.trace_line import TraceLine

OUTCOMES = [outcome.name.lower() for outcome in Outcome]
REASONS = [reason.name.lower() for reason in MalformedReason if reason]
MAX_CAPTURES = 500


class FilterSerializer(LimitSerializer):
    """Pages are not numbered, as traces cannot be counted quickly."""

    after = WholeField(min_value=0, max_value=2**63 - 1, default=0, help_text="taken from `next` of the previous page")
    service = FilterField()
    outcome = serializers.ChoiceField(OUTCOMES, required=False)


class TraceQuerySerializer(FilterSerializer, FormatSerializer):
    pass


class CaptureQuerySerializer(FilterSerializer):
    limit = WholeField(min_value=1, max_value=MAX_CAPTURES, default=100, help_text="maximum number of items")


class TraceSerializer(PlainSerializer):
    """A planned arrival and its outcome; times are in seconds since the Unix epoch in the broker's clock."""

    request_id = serializers.CharField()
    client = serializers.CharField()
    service = serializers.CharField()
    created = serializers.FloatField(help_text="the intended time")
    sent = serializers.FloatField(allow_null=True)
    done = serializers.FloatField(allow_null=True)
    status = serializers.IntegerField(allow_null=True, help_text="status code of HTTP")
    server = serializers.CharField()
    exp_id = serializers.CharField()
    dispatched = serializers.FloatField(allow_null=True)
    outcome = serializers.ChoiceField(OUTCOMES)
    size = serializers.IntegerField(help_text="size of the response's body in bytes")
    routing_version = serializers.IntegerField()
    reason = serializers.ChoiceField(
        ["", *REASONS], allow_blank=True, help_text="why a response is malformed; empty for other outcomes"
    )
    resent = serializers.IntegerField(help_text="1 if the request was sent a second time, on a new connection")
    address = serializers.CharField(help_text="the address behind the server's name; empty if the server is an address")


class MessageSerializer(PlainSerializer):
    """A message as it was sent or received, truncated to the workload's `capture_bytes`."""

    encoding = serializers.ChoiceField(["utf-8", "base64"], help_text="base64: the message is not valid UTF-8")
    content = serializers.CharField()


class CaptureSerializer(TraceSerializer):
    """A trace with its request and the received part of its response."""

    request = MessageSerializer()
    response = MessageSerializer()


class TraceListView(TableView):
    queryset = Trace.objects.none()

    @extend_schema(
        parameters=[TraceQuerySerializer], responses={(200, JSON): page_of(TraceSerializer), (200, CSV): str}
    )
    def get(self, request: Request, experiment_id: str) -> HttpResponseBase:
        """Lists the traces of an experiment, as pages of JSON or all of them as CSV."""
        experiment = experiment_of(experiment_id)
        query = parse_query(request, TraceQuerySerializer)
        query.pop("format", None)
        limit = query.pop("limit")
        if self.wants_csv(request):
            rows = (_exact(line) for _, line in traces.lines_of(experiment, **query))
            return csv_download(request, f"traces-{experiment_id}", COLUMNS, rows)
        found = list(traces.lines_of(experiment, limit=limit + 1, **query))
        results = [_in_seconds(line) for _, line in found[:limit]]
        return Response({"next": _next_page(request, found, limit), "results": results})


class CaptureListView(View):
    queryset = Capture.objects.none()

    @extend_schema(parameters=[CaptureQuerySerializer], responses=page_of(CaptureSerializer))
    def get(self, request: Request, experiment_id: str) -> Response:
        """Lists the captured requests and responses of an experiment, each with its trace."""
        experiment = experiment_of(experiment_id)
        query = parse_query(request, CaptureQuerySerializer)
        limit = query.pop("limit")
        found = list(traces.lines_of(experiment, captured=True, limit=limit + 1, **query))
        captures = traces.captures_of(key for key, _ in found[:limit])
        results = [
            {
                **_in_seconds(line),
                "request": _message(captures[key].request),
                "response": _message(captures[key].response),
            }
            for key, line in found[:limit]
            if key in captures  # the experiment may have been deleted meanwhile
        ]
        return Response({"next": _next_page(request, found, limit), "results": results})


def _next_page(request: Request, found: list[tuple[int, TraceLine]], limit: int) -> str | None:
    """Returns the URL of the next page, if more was found than the limit."""
    return address(request, after=found[limit - 1][0], limit=limit) if len(found) > limit else None


def _message(captured: bytes | memoryview) -> dict[str, str]:
    data = bytes(captured)
    try:
        return {"encoding": "utf-8", "content": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "content": base64.b64encode(data).decode()}


def _in_seconds(line: TraceLine) -> dict[str, object]:
    values = line._asdict()
    for name in TIMES:
        values[name] = None if values[name] is None else values[name] / 1e9
    return values


def _exact(line: TraceLine) -> list[object]:
    return [
        exact_seconds(value) if name in TIMES else ("" if value is None else value)
        for name, value in line._asdict().items()
    ]
