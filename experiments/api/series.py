"""The per-second statistics of an experiment, as charts read them: JSON, or CSV, which is sent while it is read."""

from __future__ import annotations

import math
from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.analysis.series import COLUMNS, Part, series_of
from experiments.api.base import unknown_experiment
from experiments.api.pages import CSV, JSON, FilterField, FormatSerializer, TableView, asked, csv_stream
from experiments.api.serializers import PlainSerializer
from experiments.models import Experiment, SecondStats
from routing.errors import InvalidInput

# What is less counts from the experiment's start: no experiment takes thirty years.
EPOCH_FROM_S = 1e9
MAX_TIME_S = 1e11
_WHOLE = ("second", "arrivals", "sent", "completed", "errors", "dropped", "late", "connect_failed", "cut", "size")
_HELP = {
    "second": "the first of the step, since the Unix epoch in the broker's clock",
    "offset_s": "the same since the experiment's start",
    "planned": "arrivals; null in the closed model",
    "clients": "the mean number of active ones; null in the open model",
    "size": "bytes of the responses' bodies",
}


def _finite(value: float) -> None:
    if not math.isfinite(value):
        raise serializers.ValidationError("A finite number is needed.")


class SeriesQuerySerializer(FormatSerializer):
    step = serializers.IntegerField(
        min_value=1,
        max_value=604_800,
        required=False,
        help_text="seconds of a point; by default 1, or as many as needed",
    )
    service = FilterField()
    workload = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, required=False, help_text="its index in the plan"
    )
    host = FilterField(help_text="only what was sent to it, of which sent, completed and errors are known")

    def get_fields(self) -> dict[str, Any]:
        """Two more, the first of which has a name that is a word of Python."""
        about = "seconds since the experiment's start or, from 10⁹ on, since the Unix epoch"
        times = {
            name: serializers.FloatField(
                min_value=0, max_value=MAX_TIME_S, validators=[_finite], required=False, help_text=help_text
            )
            for name, help_text in (("from", about), ("to", f"{about}; not included"))
        }
        return {**times, **super().get_fields()}


class SeriesWorkloadSerializer(PlainSerializer):
    workload = serializers.IntegerField(help_text="its index in the plan")
    service = serializers.CharField()


def _shown(name: str) -> serializers.Field[Any, Any, Any, Any]:
    kind = serializers.IntegerField if name in _WHOLE else serializers.FloatField
    return kind(allow_null=name not in ("second", "offset_s"), help_text=_HELP.get(name, ""))


POINT = inline_serializer("Point", {name: _shown(name) for name in COLUMNS}, many=True)
SERIES = inline_serializer(
    "Series",
    {
        "start": serializers.FloatField(allow_null=True, help_text="of the experiment, since the Unix epoch"),
        "from": serializers.IntegerField(help_text="the first second, since the Unix epoch"),
        "to": serializers.IntegerField(help_text="the one behind the last"),
        "step": serializers.IntegerField(help_text="seconds of a point"),
        "workloads": SeriesWorkloadSerializer(many=True, help_text="what is in it"),
        "hosts": serializers.ListField(child=serializers.CharField(), help_text="those that were sent to"),
        "points": POINT,
    },
)


class SeriesView(TableView):
    queryset = SecondStats.objects.none()

    @extend_schema(parameters=[SeriesQuerySerializer], responses={(200, JSON): SERIES, (200, CSV): str})
    def get(self, request: Request, experiment_id: str) -> HttpResponseBase:
        """Shows what charts are made of: counts and percentiles per second of the intended time, or per longer step.

        Quiet seconds are there, too. Those that are not over yet may still grow.
        """
        experiment = selectors.experiment_status(experiment_id)
        if experiment is None:
            raise unknown_experiment(experiment_id)
        wanted = asked(request, SeriesQuerySerializer)
        part = Part(
            from_s=_since_start(experiment, wanted.get("from")),
            to_s=_since_start(experiment, wanted.get("to")),
            step_s=wanted.get("step"),
            **{name: wanted.get(name) for name in ("service", "workload", "host")},
        )
        try:
            series = series_of(experiment, part)
        except InvalidInput as refused:
            raise ValidationError({error.path: [error.message] for error in refused.errors}) from refused
        if self.wants_csv(request):
            rows = (list(point.values()) for point in series.points())
            return csv_stream(f"series-{experiment_id}", COLUMNS, rows)
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
