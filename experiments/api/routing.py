"""The routing table, and the names of the services that are in it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.api.base import View
from experiments.api.pages import JSON, FilterField, WindowSerializer, array, asked, lists
from experiments.api.permissions import ModelPermissions
from experiments.api.plan_schema import CHANGED_TARGETS, RECORD, TARGETS
from experiments.api.schema import location_of, problem
from experiments.api.serializers import PlainSerializer
from routing import models, selectors, services, table


class RecordPermissions(ModelPermissions):
    """A PUT may either add a record or change one."""

    perms_map = {
        **ModelPermissions.perms_map,
        "PUT": ["%(app_label)s.add_%(model_name)s", "%(app_label)s.change_%(model_name)s"],
    }


class RecordSerializer(PlainSerializer):
    """A service's hosts; hosts[i] has weights[i]. Each change makes a new version."""

    service = serializers.CharField()
    hosts = serializers.ListField(child=serializers.CharField())
    weights = serializers.ListField(child=serializers.FloatField())
    version = serializers.IntegerField()


class RecordQuerySerializer(WindowSerializer):
    host = FilterField(help_text="only those with exactly this host")


class TableView(View):
    """What the resources of the table share."""

    permission_classes = [RecordPermissions]
    queryset = models.RoutingRecord.objects.none()

    @property
    def by(self) -> str:
        """Who is said to have made a change."""
        return self.request.user.get_username() or "api"


class RecordListView(TableView):
    @lists(RecordQuerySerializer, RecordSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the routing records, by service."""
        wanted = asked(request, RecordQuerySerializer)
        found = selectors.records(wanted.get("host"))
        return array(request, found, lambda some: RecordSerializer(some, many=True).data, wanted)

    @extend_schema(
        request={JSON: RECORD},
        responses={201: RecordSerializer} | problem(409, "The service has a record already."),
        parameters=[location_of("the record")],
    )
    def post(self, request: Request) -> Response:
        """Adds a routing record."""
        body = _read(request.data, known=("service", "hosts", "weights"), required=("service", "hosts"))
        record = services.add_record(body["service"], body["hosts"], body.get("weights"), self.by)
        location = {"Location": f"/api/routing/{quote(record.service)}"}
        return Response(RecordSerializer(record).data, status.HTTP_201_CREATED, headers=location)


class RecordView(TableView):
    @extend_schema(responses=RecordSerializer)
    def get(self, request: Request, service: str) -> Response:
        """Shows the routing record of a service."""
        record = selectors.record(service)
        if record is None:
            raise table.RoutingMissing(service)
        return Response(RecordSerializer(record).data)

    @extend_schema(request={JSON: TARGETS}, responses=RecordSerializer)
    def put(self, request: Request, service: str) -> Response:
        """Sets the routing record of a service, whether there is one or not."""
        body = _read(request.data, known=("hosts", "weights"), required=("hosts",))
        record = services.set_record(service, body["hosts"], body.get("weights"), self.by)
        return Response(RecordSerializer(record).data)

    @extend_schema(request={JSON: CHANGED_TARGETS}, responses=RecordSerializer)
    def patch(self, request: Request, service: str) -> Response:
        """Changes hosts, weights or both of a routing record."""
        body = _read(request.data, known=("hosts", "weights"))
        if all(value is None for value in body.values()):
            raise table.RoutingInvalid([table.FieldError("body", None, "one of hosts and weights is needed")])
        record = services.change_record(service, body.get("hosts"), body.get("weights"), self.by)
        return Response(RecordSerializer(record).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, service: str) -> Response:
        """Removes the routing record of a service."""
        if not services.remove_record(service, self.by):
            raise table.RoutingMissing(service)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ServiceSerializer(PlainSerializer):
    name = serializers.CharField()


class ServiceListView(TableView):
    @lists(WindowSerializer, ServiceSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the services that have routing records. The names alone, in objects, as in the original."""
        named = [{"name": record.service} for record in selectors.records()]
        return array(request, named, list, asked(request, WindowSerializer))


def _read(body: Any, known: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    """The body's fields; what they hold is for the services to check. Raises RoutingInvalid with every fault."""
    if not isinstance(body, dict):
        raise table.RoutingInvalid([table.FieldError("body", None, f"an object with {', '.join(known)} is needed")])
    faults = {name: f"unknown key; known here: {', '.join(known)}" for name in body if name not in known}
    faults |= {name: "is missing" for name in required if body.get(name) is None}
    if faults:
        raise table.RoutingInvalid([table.FieldError(name, None, text) for name, text in faults.items()])
    return body
