"""Experiments, their workloads and events."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from experiments import selectors
from experiments.admin.base import LargeTableAdmin, ReadOnlyAdmin, as_json, experiment_filter, list_link
from experiments.analysis import report as reports
from experiments.models import Event, Experiment, Workload
from experiments.services import ending
from loadgen.protocol.enums import LoadModel

PARTS = {
    "workload": "workloads",
    "clientgroup": "client groups",
    "shard": "shards",
    "event": "events",
    "trace": "traces",
    "batch": "trace batches",
    "secondstats": "statistics per second",
    "telemetrysample": "telemetry",
    "nodeinfo": "nodes",
}


@admin.register(Experiment)
class ExperimentAdmin(ReadOnlyAdmin):
    list_display = ["id", "name", "creator", "status_shown", "verdict", "created_at", "started_at", "ended_at"]
    list_filter = ["status", "created_at", "creator"]
    search_fields = ["id", "name", "creator"]
    date_hierarchy = "created_at"
    actions = ["cancel"]
    _facts = (
        "id", "name", "creator", "status_shown", "final_status", "reason", "verdict", "tracing", "parts", "telemetry",
    )  # fmt: skip
    _times = ("created_at", "starting_at", "started_at", "ended_at", "finalizing_at", "start_broker_ns")
    fieldsets = [
        (None, {"fields": _facts}),
        ("Times", {"fields": _times}),
        ("Report", {"fields": ["report"]}),
        ("Plan", {"fields": ["seed", "metadata_json", "plan_json"]}),
        ("Summary", {"fields": ["summary_json"], "classes": ["collapse"]}),
    ]
    readonly_fields = [
        "status_shown", "verdict", "parts", "telemetry", "report", "plan_json", "metadata_json", "summary_json",
    ]  # fmt: skip

    plan_json = staticmethod(as_json("plan"))
    metadata_json = staticmethod(as_json("metadata"))
    summary_json = staticmethod(as_json("summary"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Experiment]:
        return super().get_queryset(request).defer("plan", "metadata")

    @admin.display(description="status", ordering="status")
    def status_shown(self, experiment: Experiment) -> str:
        return f"{experiment.status}, being deleted" if experiment.deletion_requested else str(experiment.status)

    @admin.display(description="verdict", empty_value="-")
    def verdict(self, experiment: Experiment) -> str | None:
        return selectors.verdict_of(experiment)

    @admin.display(description="parts")
    def parts(self, experiment: Experiment) -> SafeString:
        links = ((list_link(model, experiment.id, text),) for model, text in PARTS.items())
        return format_html_join(" · ", "{}", links)

    @admin.display(description="telemetry")
    def telemetry(self, experiment: Experiment) -> str:
        unstored = selectors.recording(experiment.id)
        if unstored is None:
            return "not recorded"
        samples = selectors.telemetry(experiment.id).count()
        text = f"{samples:,} samples of {experiment.nodes.count():,} nodes"
        if unstored["unparsable"] or unstored["dropped"]:
            text += f"; {unstored['unparsable']:,} messages could not be parsed, {unstored['dropped']:,} were dropped"
        return text

    @admin.display(description="report")
    def report(self, experiment: Experiment) -> SafeString | str:
        if experiment.summary is None:
            return "available when the experiment has ended"
        text = reports.render(reports.build(experiment, []))
        return format_html('<pre style="margin: 0; overflow-x: auto">{}</pre>', text)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("experiments.change_experiment")

    @admin.action(description="Cancel selected experiments", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Experiment]) -> HttpResponse | None:
        """Stops the load of each chosen experiment, after a page that asks for confirmation."""
        chosen = queryset.filter(pk__in=Experiment.objects.not_ended())
        if not chosen:
            self.message_user(request, "None of the selected experiments is queued or active.", messages.WARNING)
            return None
        if "confirmed" not in request.POST:
            return TemplateResponse(request, "admin/experiments/experiment/cancel.html", self._context(request, chosen))
        for experiment in chosen:
            ending.cancel(experiment.id, f"cancelled by {request.user.get_username()}")
            self.message_user(request, f"{experiment} is cancelled.", messages.SUCCESS)
        return None

    def _context(self, request: HttpRequest, chosen: QuerySet[Experiment]) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": "Cancel experiments?",
            "experiments": chosen,
            "opts": self.opts,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }


@admin.register(Workload)
class WorkloadAdmin(ReadOnlyAdmin):
    _columns = ("experiment", "index", "service", "load_model", "clients", "placement", "shards_per_worker", "shards")
    list_display = ["id", *_columns, "worker_labels"]
    list_filter = [experiment_filter("experiment_id")]
    search_fields = ["service"]
    list_select_related = ["experiment"]
    ordering = ["-id"]
    fields = [*_columns, "worker_labels_json", "spec_json"]
    readonly_fields = ["load_model", "worker_labels_json", "spec_json"]

    worker_labels_json = staticmethod(as_json("worker_labels"))
    spec_json = staticmethod(as_json("spec"))

    @admin.display(description="load model")
    def load_model(self, workload: Workload) -> str:
        model = str(workload.spec["model"])
        return f"{model} (response times depend on completions)" if model == LoadModel.CLOSED else model


@admin.register(Event)
class EventAdmin(LargeTableAdmin):
    list_display = ["id", "experiment_id", "timestamp", "name", "value"]
    list_filter = [experiment_filter("experiment_id")]
