"""Client apps of the repository."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Max, QuerySet
from django.http import HttpRequest

from experiments.admin.base import ReadOnlyAdmin, as_json
from experiments.models import ClientApp, ClientAppVersion


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
