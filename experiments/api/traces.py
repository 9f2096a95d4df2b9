"""The traces of an experiment: pages of JSON, or all of them as CSV, which is sent while it is read."""

from __future__ import annotations

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors, traces
from experiments.api.base import unknown_experiment
from experiments.api.pages import (
    CSV,
    JSON,
    FilterField,
    FormatSerializer,
    LimitSerializer,
    TableView,
    WholeField,
    address,
    asked,
    csv_stream,
    exact_seconds,
    page_of,
)
from experiments.api.serializers import PlainSerializer
from experiments.models import Trace
from experiments.traces import COLUMNS, TIMES
from loadgen.messages import Outcome
from loadgen.trace_line import TraceLine

OUTCOMES = [outcome.name.lower() for outcome in Outcome]


class TraceQuerySerializer(LimitSerializer, FormatSerializer):
    """Pages have no numbers, as nobody could count traces quickly."""

    after = WholeField(min_value=0, max_value=2**63 - 1, default=0, help_text="as `next` of the page before has it")
    service = FilterField()
    outcome = serializers.ChoiceField(OUTCOMES, required=False)


class TraceSerializer(PlainSerializer):
    """A planned arrival and what became of it; times are seconds since the Unix epoch in the broker's clock."""

    request_id = serializers.CharField()
    client = serializers.CharField()
    service = serializers.CharField()
    created = serializers.FloatField(help_text="when it was intended")
    sent = serializers.FloatField(allow_null=True)
    done = serializers.FloatField(allow_null=True)
    status = serializers.IntegerField(allow_null=True, help_text="of HTTP")
    server = serializers.CharField()
    exp_id = serializers.CharField()
    dispatched = serializers.FloatField(allow_null=True)
    outcome = serializers.ChoiceField(OUTCOMES)
    size = serializers.IntegerField(help_text="bytes of the response's body")
    routing_version = serializers.IntegerField()


class TraceListView(TableView):
    queryset = Trace.objects.none()

    @extend_schema(
        parameters=[TraceQuerySerializer], responses={(200, JSON): page_of(TraceSerializer), (200, CSV): str}
    )
    def get(self, request: Request, experiment_id: str) -> HttpResponseBase:
        """Lists the traces of an experiment, as pages of JSON or whole as CSV."""
        experiment = selectors.experiment(experiment_id)
        if experiment is None:
            raise unknown_experiment(experiment_id)
        wanted = asked(request, TraceQuerySerializer)
        wanted.pop("format", None)
        limit = wanted.pop("limit")
        if self.wants_csv(request):
            rows = (_exact(line) for _, line in traces.lines_of(experiment, **wanted))
            return csv_stream(f"traces-{experiment_id}", COLUMNS, rows)
        found = list(traces.lines_of(experiment, limit=limit + 1, **wanted))
        further = address(request, after=found[limit - 1][0], limit=limit) if len(found) > limit else None
        return Response({"next": further, "results": [_in_seconds(line) for _, line in found[:limit]]})


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
