"""Client groups, shards and clients."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from experiments import selectors
from experiments.admin.base import LargeTableAdmin, ReadOnlyAdmin, as_json, experiment_filter, in_milliseconds
from experiments.models import Client, ClientGroup, Shard
from experiments.services import groups as services
from loadgen.protocol.messages import RATE


@admin.register(ClientGroup)
class ClientGroupAdmin(ReadOnlyAdmin):
    list_display = [
        "id", "experiment", "workload", "state", "does", "total_clients", "creator", "version", "projected_version",
        "created",
    ]  # fmt: skip
    list_filter = [experiment_filter("experiment_id"), "state", "interactive"]
    search_fields = ["id", "workload__service"]
    list_select_related = ["experiment", "workload"]
    ordering = ["-created"]
    actions = ["pause", "close"]

    @admin.display(description="does", empty_value="-")
    def does(self, group: ClientGroup) -> str | None:
        """What an interactive group was told to do."""
        is_open = group.interactive and group.state != ClientGroup.State.STOP
        return selectors.doing(group) if is_open else None

    def has_command_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("experiments.change_clientgroup")

    @admin.action(description="Pause selected interactive groups", permissions=["command"])
    def pause(self, request: HttpRequest, queryset: QuerySet[ClientGroup]) -> None:
        self._each_open(request, queryset, "sends nothing now", lambda group_id: services.command(group_id, kind=RATE))

    @admin.action(description="Close selected interactive groups", permissions=["command"])
    def close(self, request: HttpRequest, queryset: QuerySet[ClientGroup]) -> None:
        self._each_open(request, queryset, "is closed", services.close)

    def _each_open(
        self, request: HttpRequest, queryset: QuerySet[ClientGroup], done: str, do: Callable[[str], object]
    ) -> None:
        """An experiment's own groups are left alone: they end with their plan, or when it is cancelled."""
        chosen = queryset.filter(interactive=True).exclude(state=ClientGroup.State.STOP)
        if not chosen:
            self.message_user(request, "None of the selected groups is interactive and open.", messages.WARNING)
        for group in chosen:
            try:
                do(group.id)
            except services.GroupClosed as error:
                self.message_user(request, str(error), messages.WARNING)
            else:
                self.message_user(request, f"{group} {done}.", messages.SUCCESS)


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
