"""Traces, their batches and their statistics: tables of millions of rows."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString

from experiments.admin.base import LargeTableAdmin, as_json, experiment_filter
from experiments.models import Batch, Capture, SecondStats, Trace
from loadgen.protocol.outcomes import Outcome


@admin.register(Trace)
class TraceAdmin(LargeTableAdmin):
    list_display = [
        "id", "experiment_id", "shard_id", "client", "sequence", "outcome_name", "status", "host", "response_time_ms",
        "service_time_ms", "lateness_ms", "size", "routing_version",
    ]  # fmt: skip
    list_filter = [experiment_filter("experiment_id")]
    readonly_fields = ["outcome_name", "response_time_ms", "service_time_ms", "lateness_ms", "request", "response"]

    @admin.display(description="request as it was sent")
    def request(self, trace: Trace) -> SafeString | str:
        return _captured(trace, "request")

    @admin.display(description="response as it came")
    def response(self, trace: Trace) -> SafeString | str:
        return _captured(trace, "response")

    @admin.display(description="outcome (name)")
    def outcome_name(self, trace: Trace) -> str:
        return Outcome(trace.outcome).name.lower().replace("_", " ")

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


def _captured(trace: Trace, part: str) -> SafeString | str:
    captured = Capture.objects.filter(id=trace.id).values_list(part, flat=True).first()
    if captured is None:
        return "-"  # the workload's `capture` did not ask for it
    text = bytes(captured).decode(errors="backslashreplace").replace("\r\n", "\n")
    return format_html('<pre style="margin: 0; white-space: pre-wrap">{}</pre>', text)


def _milliseconds(begin_ns: int | None, end_ns: int | None) -> str:
    return "-" if begin_ns is None or end_ns is None else f"{(end_ns - begin_ns) / 1e6:,.3f}"
