"""The routing table under /api/routing: thin views over services and selectors."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rest_framework import serializers, status
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from routing import models, selectors, services, table

# DRF's own class takes no type parameters at run time.
if TYPE_CHECKING:
    RecordBaseSerializer = serializers.Serializer[Any]
else:
    RecordBaseSerializer = serializers.Serializer

ADD, CHANGE, VIEW = (f"%(app_label)s.{action}_%(model_name)s" for action in ("add", "change", "view"))


class RecordPermissions(DjangoModelPermissions):
    """As in the admin, reading needs a permission, too; a PUT may either add a record or change one."""

    perms_map = {**DjangoModelPermissions.perms_map, "GET": [VIEW], "HEAD": [VIEW], "PUT": [ADD, CHANGE]}


class RecordSerializer(RecordBaseSerializer):
    """A service's hosts; hosts[i] has weights[i]. Each change makes a new version."""

    service = serializers.CharField()
    hosts = serializers.ListField(child=serializers.CharField())
    weights = serializers.ListField(child=serializers.FloatField())
    version = serializers.IntegerField()


class View(APIView):
    """What both resources share."""

    permission_classes = [RecordPermissions]
    queryset = models.RoutingRecord.objects.none()  # names the model for the permissions

    @property
    def by(self) -> str:
        """Who is said to have made a change."""
        return self.request.user.get_username() or "api"


class RecordListView(View):
    def get(self, request: Request) -> Response:
        """Every record, by service."""
        return Response(RecordSerializer(selectors.records(), many=True).data)

    def post(self, request: Request) -> Response:
        """Adds a record: service, hosts and maybe weights, without which each host weighs 1. 409 if there is one."""
        body = _read(request.data, known=("service", "hosts", "weights"), required=("service", "hosts"))
        record = services.add_record(body["service"], body["hosts"], body.get("weights"), self.by)
        location = {"Location": f"/api/routing/{quote(record.service)}"}
        return Response(RecordSerializer(record).data, status.HTTP_201_CREATED, headers=location)


class RecordView(View):
    def get(self, request: Request, service: str) -> Response:
        record = selectors.record(service)
        if record is None:
            raise table.RoutingMissing(service)
        return Response(RecordSerializer(record).data)

    def put(self, request: Request, service: str) -> Response:
        """Sets a record, whether there is one or not: hosts and maybe weights, without which each host weighs 1."""
        body = _read(request.data, known=("hosts", "weights"), required=("hosts",))
        record = services.set_record(service, body["hosts"], body.get("weights"), self.by)
        return Response(RecordSerializer(record).data)

    def patch(self, request: Request, service: str) -> Response:
        """Changes hosts, weights or both of a record."""
        body = _read(request.data, known=("hosts", "weights"))
        record = services.change_record(service, body.get("hosts"), body.get("weights"), self.by)
        return Response(RecordSerializer(record).data)

    def delete(self, request: Request, service: str) -> Response:
        if not services.remove_record(service, self.by):
            raise table.RoutingMissing(service)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _read(body: Any, known: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    """The body's fields; what they hold is for the services to check. Raises RoutingInvalid with every fault."""
    if not isinstance(body, dict):
        raise table.RoutingInvalid([table.FieldError("body", None, f"an object with {', '.join(known)} is needed")])
    faults = {name: f"unknown key; known here: {', '.join(known)}" for name in body if name not in known}
    faults |= {name: "is missing" for name in required if body.get(name) is None}
    if faults:
        raise table.RoutingInvalid([table.FieldError(name, None, text) for name, text in faults.items()])
    return body
