"""Base classes of the admin pages: read-only models, large tables, and the display of JSON, links and times."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import DateTimeField, Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from experiments.models import Experiment

# Django's own classes take no type parameters at run time.
if TYPE_CHECKING:
    AnyModelAdmin = admin.ModelAdmin[Any]
    AnyPaginator = Paginator[Any]
else:
    AnyModelAdmin = admin.ModelAdmin
    AnyPaginator = Paginator

# The most rows that the list of a large table shows; a filter finds the others.
MAX_LISTED = 10_000
LATEST_EXPERIMENTS = 25


class ReadOnlyAdmin(AnyModelAdmin):
    """A read-only page: only services write the model."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class BoundedPaginator(AnyPaginator):
    """Counts up to MAX_LISTED, because COUNT(*) over millions of rows takes too long."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[:MAX_LISTED].count()


class FixedOrderChangeList(ChangeList):
    """A list that ignores the order in the address; `sortable_by` alone only removes the links."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return list(self.model_admin.get_ordering(request))


class LargeTableAdmin(ReadOnlyAdmin):
    """A table of up to millions of rows: ordered by its key, without sorting, search and a full count."""

    paginator = BoundedPaginator
    show_full_result_count = False
    ordering = ("-pk",)
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FixedOrderChangeList


class UtcDateFilter(admin.DateFieldListFilter):
    """The filter on a time: its days begin at midnight in UTC."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.title = f"{self.title} (UTC)"


admin.FieldListFilter.register(lambda field: isinstance(field, DateTimeField), UtcDateFilter, take_priority=True)


def experiment_filter(lookup: str) -> type[admin.SimpleListFilter]:
    """A filter on `lookup`, an experiment's id: it offers the latest experiments, and the address can name any."""

    class ExperimentFilter(admin.SimpleListFilter):
        title = "experiment"
        parameter_name = "experiment"

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            latest = Experiment.objects.values_list("id", "name")[:LATEST_EXPERIMENTS]
            return [(experiment_id, f"{experiment_id} {name}") for experiment_id, name in latest]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            wanted = self.value()
            return queryset if wanted is None else queryset.filter(**{lookup: wanted})

    return ExperimentFilter


def as_json(field: str) -> Callable[[Any], SafeString]:
    """A read-only column that shows a JSON field, indented."""

    @admin.display(description=field.replace("_", " "))
    def show(row: Any) -> SafeString:
        text = json.dumps(getattr(row, field), indent=2, ensure_ascii=False)
        return format_html('<pre style="margin: 0; white-space: pre-wrap">{}</pre>', text)

    return show


def in_milliseconds(field: str) -> Callable[[Any], str]:
    """A read-only column that shows a field of ns in ms."""

    @admin.display(description=field.removesuffix("_ns").replace("_", " ") + " (ms)")
    def show(row: Any) -> str:
        value = getattr(row, field)
        return "-" if value is None else f"{value / 1e6:,.3f}"

    return show


def list_link(model: str, experiment_id: str, text: str) -> SafeString:
    """A link to the list of a model's rows of one experiment."""
    address = reverse(f"admin:experiments_{model}_changelist")
    return format_html('<a href="{}?{}">{}</a>', address, urlencode({"experiment": experiment_id}), text)
