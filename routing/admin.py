"""The routing table in the admin: records are saved through `routing.services`, revisions are read-only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.forms.formsets import DELETION_FIELD_NAME
from django.http import HttpRequest

from routing import services, table
from routing.errors import add_to_form
from routing.models import RoutingHost, RoutingRecord, RoutingRevision

# Django's own classes take no type parameters at run time.
if TYPE_CHECKING:
    RecordModelForm = forms.ModelForm[RoutingRecord]
    HostModelForm = forms.ModelForm[RoutingHost]
    HostBaseFormSet = forms.BaseInlineFormSet[RoutingHost, RoutingRecord, HostModelForm]
    HostTabularInline = admin.TabularInline[RoutingHost, RoutingRecord]
    RecordAdmin = admin.ModelAdmin[RoutingRecord]
    RevisionAdmin = admin.ModelAdmin[RoutingRevision]
else:
    RecordModelForm = HostModelForm = forms.ModelForm
    HostBaseFormSet = forms.BaseInlineFormSet
    HostTabularInline = admin.TabularInline
    RecordAdmin = RevisionAdmin = admin.ModelAdmin


_OF_A_ROW = re.compile(r"(?P<field>host|weight)s\[(?P<index>[0-9]+)\]")


class RecordForm(RecordModelForm):
    """A record's name, and the version that the page showed when it was opened."""

    opened_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = RoutingRecord
        fields = ("service",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            self.fields["opened_version"].initial = self.instance.version

    def clean_service(self) -> str:
        """Shows the errors of the services at the field."""
        service: str = self.cleaned_data["service"]
        add_to_form(self, services.service_errors(service))
        return service

    def clean(self) -> dict[str, Any] | None:
        """Refuses to overwrite a version that the user has not seen, as experiments and tools set records, too."""
        opened = self.cleaned_data.get("opened_version")
        if self.instance.pk is not None and opened is not None and opened != self.instance.version:
            self.add_error(
                None,
                f"version {self.instance.version} was set while you edited version {opened}; open the record again",
            )
        return super().clean()


class HostFormSet(HostBaseFormSet):
    """The rows of a record's hosts; their order is the order of the list."""

    def kept(self) -> list[HostModelForm]:
        """Returns the rows that are filled in and not marked for deletion."""
        return [
            form
            for form in self.forms
            if not form.cleaned_data.get(DELETION_FIELD_NAME) and (form.has_changed() or form.instance.pk is not None)
        ]

    def clean(self) -> None:
        """Shows an error of a host or weight at its field, and one of a whole list above the rows."""
        kept = self.kept()
        misread = any(form.errors for form in kept)
        hosts = [form.cleaned_data.get("host") for form in kept]
        weights = [form.cleaned_data.get("weight") for form in kept]
        of_the_list = []
        for error in table.find_target_errors(hosts, weights):
            found = _OF_A_ROW.fullmatch(error.path)
            if found is None:
                of_the_list.append(forms.ValidationError(str(error)))
                continue
            form, name = kept[int(found["index"])], found["field"]
            if name not in form.errors:
                form.add_error(name, error.message)
        # An error of the whole list may be wrong if some of its values could not be read.
        if of_the_list and not misread:
            raise forms.ValidationError(of_the_list)


class HostInline(HostTabularInline):
    """A record's hosts and weights."""

    model = RoutingHost
    formset = HostFormSet
    fields = ("host", "weight")
    extra = 2


@admin.register(RoutingRecord)
class RoutingRecordAdmin(RecordAdmin):
    """Sets and removes records through the services: with a version, a revision and a projection."""

    form = RecordForm
    inlines = (HostInline,)
    list_display = ("service", "version", "targets", "updated_at")
    search_fields = ("service",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[RoutingRecord]:
        return super().get_queryset(request).prefetch_related("hosts")

    def get_fields(self, request: HttpRequest, obj: RoutingRecord | None = None) -> tuple[str, ...]:
        return ("service",) if obj is None else ("service", "version", "updated_at", "opened_version")

    def get_readonly_fields(self, request: HttpRequest, obj: RoutingRecord | None = None) -> tuple[str, ...]:
        """The name of an existing record cannot be changed: another name is another service."""
        return () if obj is None else ("service", "version", "updated_at")

    @admin.display(description="hosts (weights)")
    def targets(self, record: RoutingRecord) -> str:
        return ", ".join(str(row) for row in record.hosts.all())

    def save_model(self, request: HttpRequest, obj: RoutingRecord, form: Any, change: bool) -> None:
        """Writes nothing: `save_related` writes the record with its hosts."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Sets the record with all its hosts in one call of the services."""
        (formset,) = formsets
        formset.save(commit=False)  # only for the admin's log of changes; nothing is written
        kept = [row.cleaned_data for row in formset.kept()]
        service = form.instance.service
        services.set_record(
            service, [row["host"] for row in kept], [row["weight"] for row in kept], request.user.get_username()
        )
        form.instance.pk = RoutingRecord.objects.get(service=service).pk

    def delete_model(self, request: HttpRequest, obj: RoutingRecord) -> None:
        services.remove_record(obj.service, request.user.get_username())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[RoutingRecord]) -> None:
        for service in list(queryset.values_list("service", flat=True)):
            services.remove_record(service, request.user.get_username())


@admin.register(RoutingRevision)
class RoutingRevisionAdmin(RevisionAdmin):
    """Every version of every service; read-only."""

    list_display = ("changed_at", "service", "version", "hosts", "weights", "removed", "changed_by")
    list_filter = ("removed",)
    search_fields = ("service", "changed_by")
    ordering = ("-changed_at", "-id")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: RoutingRevision | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: RoutingRevision | None = None) -> bool:
        return False
