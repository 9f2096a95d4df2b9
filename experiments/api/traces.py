"""The traces of an experiment: pages of JSON, or all of them as CSV, which is sent while it is read."""

from __future__ import annotations

from django.http import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors, traces
from experiments.api.pages import LimitSerializer, TableView, address, checked, csv_stream, exact_seconds
from experiments.api.permissions import ModelPermissions
from experiments.api.views import unknown_experiment
from experiments.models import Trace
from experiments.traces import COLUMNS, TIMES
from loadgen.messages import Outcome
from loadgen.trace_line import TraceLine

OUTCOMES = [outcome.name.lower() for outcome in Outcome]


class TraceQuerySerializer(LimitSerializer):
    """`after` is what `next` of the page before has: pages have no numbers, as nobody could count traces quickly."""

    after = serializers.IntegerField(min_value=0, max_value=2**63 - 1, default=0)
    service = serializers.CharField(required=False)
    outcome = serializers.ChoiceField(OUTCOMES, required=False)


class TraceListView(TableView):
    permission_classes = [ModelPermissions]
    queryset = Trace.objects.none()

    def get(self, request: Request, experiment_id: str) -> HttpResponseBase:
        experiment = selectors.experiment(experiment_id)
        if experiment is None:
            raise unknown_experiment(experiment_id)
        wanted = checked(TraceQuerySerializer, request.query_params.dict())
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
