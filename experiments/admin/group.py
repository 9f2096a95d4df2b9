"""Client groups, shards and clients."""

from __future__ import annotations

from django.contrib import admin

from experiments.admin.base import LargeTableAdmin, ReadOnlyAdmin, as_json, experiment_filter, in_milliseconds
from experiments.models import Client, ClientGroup, Shard


@admin.register(ClientGroup)
class ClientGroupAdmin(ReadOnlyAdmin):
    list_display = ["id", "experiment", "workload", "state", "version", "projected_version", "total_clients", "created"]
    list_filter = [experiment_filter("experiment_id"), "state"]
    search_fields = ["id", "workload__service"]
    list_select_related = ["experiment", "workload"]
    ordering = ["-id"]


@admin.register(Shard)
class ShardAdmin(ReadOnlyAdmin):
    list_display = [
        "id", "group_id", "index", "worker", "status", "attempt", "planned", "batches", "uncertainty", "reason",
    ]  # fmt: skip
    list_filter = [experiment_filter("group__experiment_id"), "status", "worker"]
    search_fields = ["group__id", "worker__name"]
    list_select_related = ["worker"]
    ordering = ["-id"]
    exclude = ["totals", "clients"]
    readonly_fields = ["clients_json", "totals_json"]

    clients_json = staticmethod(as_json("clients"))
    totals_json = staticmethod(as_json("totals"))
    uncertainty = staticmethod(in_milliseconds("clock_uncertainty_ns"))


@admin.register(Client)
class ClientAdmin(LargeTableAdmin):
    list_display = ["id", "client_id", "shard_id"]
    list_filter = [experiment_filter("group__experiment_id")]
    fields = ["client_id", "group", "shard", "index"]
    readonly_fields = ["client_id"]
