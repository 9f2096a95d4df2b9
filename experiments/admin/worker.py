"""Workers."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest

from experiments.admin.base import ReadOnlyAdmin, as_json, in_milliseconds
from experiments.models import ENDED_SHARD_STATUSES, Worker


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
        active = Count("shards", filter=~Q(shards__status__in=ENDED_SHARD_STATUSES))
        workers: QuerySet[Worker] = super().get_queryset(request).annotate(used_slots=active)
        return workers

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
