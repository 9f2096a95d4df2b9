"""Workers, and the client apps of the repository."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Max, QuerySet
from django.http import HttpRequest

from experiments import selectors
from experiments.admin.base import ReadOnlyAdmin, as_json, in_milliseconds
from experiments.models import ClientApp, ClientAppVersion, Worker


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ["name", "status", "labels_text", "used_slots", "slots", "cores", "memory", "machine",
                    "heartbeat_at", "uncertainty"]  # fmt: skip
    list_filter = ["status", "machine"]
    search_fields = ["name", "hostname"]
    exclude = ["labels", "versions"]
    readonly_fields = ["labels_json", "versions_json"]

    labels_json = staticmethod(as_json("labels"))
    versions_json = staticmethod(as_json("versions"))
    uncertainty = staticmethod(in_milliseconds("clock_uncertainty_ns"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        return selectors.with_used_slots(super().get_queryset(request))

    @admin.display(description="labels")
    def labels_text(self, worker: Worker) -> str:
        return ", ".join(f"galileo_{label}={value}" for label, value in worker.labels.items())

    @admin.display(description="used slots")
    def used_slots(self, worker: Worker) -> int:
        count: int = worker.used_slots  # type: ignore[attr-defined]  # the annotation above
        return count

    @admin.display(description="memory (GiB)")
    def memory(self, worker: Worker) -> str:
        return f"{worker.memory_bytes / 2**30:.1f}"


@admin.register(ClientApp)
class ClientAppAdmin(ReadOnlyAdmin):
    list_display = ["name", "newest", "created_at"]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ClientApp]:
        apps: QuerySet[ClientApp] = super().get_queryset(request).annotate(newest=Max("versions__number"))
        return apps

    @admin.display(description="newest version")
    def newest(self, app: ClientApp) -> int | None:
        number: int | None = app.newest  # type: ignore[attr-defined]  # the annotation above
        return number


@admin.register(ClientAppVersion)
class ClientAppVersionAdmin(ReadOnlyAdmin):
    list_display = ["app", "number", "digest", "archive_bytes", "unpacked_bytes", "creator", "created_at"]
    list_filter = ["app"]
    search_fields = ["app__name", "digest"]
    list_select_related = ["app"]
    ordering = ["-id"]
    exclude = ["manifest"]
    readonly_fields = ["manifest_json"]

    manifest_json = staticmethod(as_json("manifest"))
