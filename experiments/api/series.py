"""The per-second statistics of an experiment for charts, as JSON or as a stream of CSV."""

from __future__ import annotations

import math
from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.analysis.series import COLUMNS, Part, series_of
from experiments.api.base import JSON, TableView, experiment_status
from experiments.api.parsing import parse_query
from experiments.api.serializers import FilterField, FormatSerializer, PlainSerializer
from experiments.downloads import CSV, csv_download
from experiments.models import Experiment, SecondStats

# Smaller times count from the experiment's start: no experiment takes thirty years.
EPOCH_FROM_S = 1e9
MAX_TIME_S = 1e11
_WHOLE = (
    "second",
    "arrivals",
    "sent",
    "completed",
    "errors",
    "dropped",
    "late",
    "connect_failed",
    "cut",
    "size",
    "resent",
)
_HELP = {
    "second": "first second of the step, since the Unix epoch in the broker's clock",
    "offset_s": "first second of the step, since the experiment's start",
    "planned": "number of planned arrivals; null in the closed model",
    "clients": "mean number of active clients; null in the open model",
    "size": "total size of the responses' bodies in bytes",
    "resent": "requests that were sent a second time, on a new connection",
}


def _finite(value: float) -> None:
    if not math.isfinite(value):
        raise serializers.ValidationError("A finite number is required.")


class SeriesQuerySerializer(FormatSerializer):
    step = serializers.IntegerField(
        min_value=1,
        max_value=604_800,
        required=False,
        help_text="seconds per point; default: 1, or more for a long experiment",
    )
    service = FilterField()
    workload = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, required=False, help_text="index of the workload in the plan"
    )
    host = FilterField(help_text="only requests to this host, of which sent, completed and errors are known")

    def get_fields(self) -> dict[str, Any]:
        """Adds `from`, which is a keyword of Python, and `to`."""
        about = "seconds since the experiment's start or, from 10⁹ on, since the Unix epoch"
        times = {
            name: serializers.FloatField(
                min_value=0, max_value=MAX_TIME_S, validators=[_finite], required=False, help_text=help_text
            )
            for name, help_text in (("from", about), ("to", f"{about}; exclusive"))
        }
        return {**times, **super().get_fields()}


class SeriesWorkloadSerializer(PlainSerializer):
    workload = serializers.IntegerField(help_text="index of the workload in the plan")
    service = serializers.CharField()


def _shown(name: str) -> serializers.Field[Any, Any, Any, Any]:
    kind = serializers.IntegerField if name in _WHOLE else serializers.FloatField
    return kind(allow_null=name not in ("second", "offset_s"), help_text=_HELP.get(name, ""))


POINT = inline_serializer("Point", {name: _shown(name) for name in COLUMNS}, many=True)
SERIES = inline_serializer(
    "Series",
    {
        "start": serializers.FloatField(allow_null=True, help_text="start of the experiment, since the Unix epoch"),
        "from": serializers.IntegerField(help_text="first second, since the Unix epoch"),
        "to": serializers.IntegerField(help_text="the second after the last"),
        "step": serializers.IntegerField(help_text="seconds per point"),
        "workloads": SeriesWorkloadSerializer(many=True, help_text="the workloads of these points"),
        "hosts": serializers.ListField(child=serializers.CharField(), help_text="hosts that requests were sent to"),
        "points": POINT,
    },
)


class SeriesView(TableView):
    queryset = SecondStats.objects.none()

    @extend_schema(parameters=[SeriesQuerySerializer], responses={(200, JSON): SERIES, (200, CSV): str})
    def get(self, request: Request, experiment_id: str) -> HttpResponseBase:
        """Returns counts and percentiles per second of the intended time, or per longer step.

        Seconds without requests are included. The last seconds of a running experiment may still grow.
        """
        experiment = experiment_status(experiment_id)
        query = parse_query(request, SeriesQuerySerializer)
        part = Part(
            from_s=_since_start(experiment, query.get("from")),
            to_s=_since_start(experiment, query.get("to")),
            step_s=query.get("step"),
            **{name: query.get(name) for name in ("service", "workload", "host")},
        )
        series = series_of(experiment, part, in_memory=not self.wants_csv(request))
        if self.wants_csv(request):
            rows = (list(point.values()) for point in series.points())
            return csv_download(request, f"series-{experiment_id}", COLUMNS, rows)
        points = list(series.points())
        start_ns = experiment.start_broker_ns
        return Response(
            {
                "start": None if start_ns is None else start_ns / 1e9,
                "from": series.first,
                "to": series.until,
                "step": series.step_s,
                "workloads": [{"workload": index, "service": name} for index, name in series.workloads.items()],
                "hosts": sorted(series.hosts),
                "points": points,
            }
        )


def _since_start(experiment: Experiment, time_s: float | None) -> float | None:
    if time_s is None or time_s < EPOCH_FROM_S:
        return time_s
    return time_s - (experiment.start_broker_ns or 0) / 1e9
