"""Traces, their batches and statistics, and telemetry: the tables of millions of rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from experiments.admin.base import LargeTableAdmin, ReadOnlyAdmin, as_json, experiment_filter
from experiments.models import Batch, Capture, NodeInfo, SecondStats, TelemetrySample, Trace
from loadgen.protocol.outcomes import MalformedReason, Outcome


@admin.register(Trace)
class TraceAdmin(LargeTableAdmin):
    list_display = [
        "id", "experiment_id", "shard_id", "client", "sequence", "outcome_name", "reason_name", "status", "host",
        "response_time_ms", "service_time_ms", "lateness_ms", "size", "routing_version",
    ]  # fmt: skip
    list_filter = [experiment_filter("experiment_id")]
    readonly_fields = [
        "outcome_name",
        "reason_name",
        "response_time_ms",
        "service_time_ms",
        "lateness_ms",
        "request",
        "response",
    ]

    @admin.display(description="request as sent")
    def request(self, trace: Trace) -> SafeString | str:
        return _captured(trace, "request")

    @admin.display(description="response as received")
    def response(self, trace: Trace) -> SafeString | str:
        return _captured(trace, "response")

    @admin.display(description="outcome (name)")
    def outcome_name(self, trace: Trace) -> str:
        return Outcome(trace.outcome).name.lower().replace("_", " ")

    @admin.display(description="malformed because of")
    def reason_name(self, trace: Trace) -> str:
        return MalformedReason(trace.reason).name.lower().replace("_", " ") if trace.reason else "-"

    @admin.display(description="response time (ms)")
    def response_time_ms(self, trace: Trace) -> str:
        return _milliseconds(trace.intended_ns, trace.done_ns)

    @admin.display(description="service time (ms)")
    def service_time_ms(self, trace: Trace) -> str:
        return _milliseconds(trace.sent_ns, trace.done_ns)

    @admin.display(description="lateness (ms)")
    def lateness_ms(self, trace: Trace) -> str:
        return _milliseconds(trace.intended_ns, trace.dispatched_ns)


@admin.register(Batch)
class BatchAdmin(LargeTableAdmin):
    list_display = ["id", "shard_id", "attempt", "number", "rows", "traced", "received_at"]
    list_filter = [experiment_filter("shard__group__experiment_id")]
    fields = ["shard", "attempt", "number", "rows", "traced", "received_at", "counters_json", "gauges_json"]
    readonly_fields = ["counters_json", "gauges_json"]

    counters_json = staticmethod(as_json("counters"))
    gauges_json = staticmethod(as_json("gauges"))


@admin.register(SecondStats)
class SecondStatsAdmin(LargeTableAdmin):
    list_display = [
        "id", "experiment_id", "shard_id", "workload", "second", "traced", "arrivals", "sent", "completed", "size",
    ]  # fmt: skip
    list_filter = [experiment_filter("experiment_id")]


def series_filter(field: str) -> type[admin.SimpleListFilter]:
    """A filter by a part of a series; it offers the values of the chosen experiment."""

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

    @admin.display(description="time")
    def time(self, sample: TelemetrySample) -> str:
        seconds, ns = divmod(sample.timestamp_ns, 1_000_000_000)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns // 1000:06d} UTC"


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


def _captured(trace: Trace, part: str) -> SafeString | str:
    captured = Capture.objects.filter(id=trace.id).values_list(part, flat=True).first()
    if captured is None:
        return "-"  # not captured by the workload's `capture`
    text = bytes(captured).decode(errors="backslashreplace").replace("\r\n", "\n")
    return format_html('<pre style="margin: 0; white-space: pre-wrap">{}</pre>', text)


def _milliseconds(begin_ns: int | None, end_ns: int | None) -> str:
    return "-" if begin_ns is None or end_ns is None else f"{(end_ns - begin_ns) / 1e6:,.3f}"
