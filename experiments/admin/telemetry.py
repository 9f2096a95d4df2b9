"""Telemetry, and what the nodes are that sent it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from experiments.admin.base import LargeTableAdmin, ReadOnlyAdmin, as_json, experiment_filter
from experiments.models import NodeInfo, TelemetrySample


def series_filter(field: str) -> type[admin.SimpleListFilter]:
    """A filter by a part of a series; it offers what there is of one experiment, once that is chosen."""

    class SeriesFilter(admin.SimpleListFilter):
        title = field
        parameter_name = field

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            chosen = request.GET.get("experiment")
            if not chosen:
                return []
            found = TelemetrySample.objects.filter(experiment_id=chosen).order_by(field)
            return [(value, value) for value in found.values_list(field, flat=True).distinct()]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            wanted = self.value()
            return queryset if wanted is None else queryset.filter(**{field: wanted})

    return SeriesFilter


@admin.register(TelemetrySample)
class TelemetrySampleAdmin(LargeTableAdmin):
    list_display = ["id", "experiment_id", "time", "node", "metric", "subsystem", "value"]
    list_filter = [experiment_filter("experiment_id"), series_filter("node"), series_filter("metric")]
    readonly_fields = ["time"]

    @admin.display(description="time (UTC)")
    def time(self, sample: TelemetrySample) -> str:
        seconds, ns = divmod(sample.timestamp_ns, 1_000_000_000)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns // 1000:06d}"


@admin.register(NodeInfo)
class NodeInfoAdmin(ReadOnlyAdmin):
    list_display = ["node", "experiment_id"]
    list_filter = [experiment_filter("experiment_id")]
    search_fields = ["node"]
    ordering = ["-id"]
    fields = ["experiment", "node", "info_json", "worker_json"]
    readonly_fields = ["info_json", "worker_json"]

    info_json = staticmethod(as_json("info"))
    worker_json = staticmethod(as_json("worker"))
