"""Client groups and shards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from experiments import selectors
from experiments.admin.base import ReadOnlyAdmin, as_json, experiment_filter, in_milliseconds
from experiments.models import ClientGroup, GroupState, Shard
from experiments.services import groups as services
from loadgen.protocol.enums import CommandKind


class InteractiveFilter(admin.SimpleListFilter):
    title = "interactive"
    parameter_name = "interactive"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "Yes"), ("0", "No")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ClientGroup]) -> QuerySet[ClientGroup]:
        wanted = self.value()
        return queryset if wanted is None else queryset.filter(interactive_part__isnull=wanted == "0")


@admin.register(ClientGroup)
class ClientGroupAdmin(ReadOnlyAdmin):
    list_display = [
        "id", "experiment", "workload", "state", "does", "total_clients", "creator", "version", "projected_version",
        "created_at",
    ]  # fmt: skip
    list_filter = [experiment_filter("experiment_id"), "state", InteractiveFilter]
    search_fields = ["id", "workload__service"]
    list_select_related = ["experiment", "workload", "interactive_part"]
    ordering = ["-created_at"]
    actions = ["pause", "close"]

    @admin.display(description="does", empty_value="-")
    def does(self, group: ClientGroup) -> str | None:
        """The current command of an interactive group."""
        is_open = group.interactive is not None and group.state != GroupState.STOP
        return selectors.doing(group) if is_open else None

    @admin.display(description="creator", ordering="interactive_part__creator", empty_value="-")
    def creator(self, group: ClientGroup) -> str | None:
        return group.interactive.creator if group.interactive else None

    def has_command_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("experiments.change_clientgroup")

    @admin.action(description="Pause selected interactive groups", permissions=["command"])
    def pause(self, request: HttpRequest, queryset: QuerySet[ClientGroup]) -> None:
        self._each_open(
            request, queryset, "sends nothing now", lambda group_id: services.command(group_id, kind=CommandKind.RATE)
        )

    @admin.action(description="Close selected interactive groups", permissions=["command"])
    def close(self, request: HttpRequest, queryset: QuerySet[ClientGroup]) -> None:
        self._each_open(request, queryset, "is closed", services.close)

    def _each_open(
        self, request: HttpRequest, queryset: QuerySet[ClientGroup], done: str, do: Callable[[str], object]
    ) -> None:
        """Applies `do` to the interactive groups; the others end with their plan, or when it is cancelled."""
        chosen = queryset.filter(pk__in=ClientGroup.objects.interactive().not_stopped())
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
