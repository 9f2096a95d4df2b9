"""The routing table, and the names of its services."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.api.access import ModelPermissions
from experiments.api.base import JSON, View, array, below, lists
from experiments.api.parsing import BODY, parse_query
from experiments.api.schema import location_of, problem
from experiments.api.serializers import FilterField, PlainSerializer, WindowSerializer
from experiments.plans.parsing import json_schema
from experiments.plans.routes import ChangedTargets, Route, Targets
from routing import models, selectors, services
from routing.errors import Code, FieldError, InvalidInput


class RecordPermissions(ModelPermissions):
    """A PUT may add a record or change one, and needs both permissions."""

    perms_map = {
        **ModelPermissions.perms_map,
        "PUT": ["%(app_label)s.add_%(model_name)s", "%(app_label)s.change_%(model_name)s"],
    }


class RecordSerializer(PlainSerializer):
    """The weighted hosts of a service; hosts[i] has weights[i]. Each change makes a new version."""

    service = serializers.CharField()
    hosts = serializers.ListField(child=serializers.CharField())
    weights = serializers.ListField(child=serializers.FloatField())
    version = serializers.IntegerField()


class RecordQuerySerializer(WindowSerializer):
    host = FilterField(help_text="only records with exactly this host")


class RoutingView(View):
    """The base of the resources of the routing table."""

    permission_classes = [RecordPermissions]
    queryset = models.RoutingRecord.objects.none()


class RecordListView(RoutingView):
    @lists(RecordQuerySerializer, RecordSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the routing records, by service."""
        query = parse_query(request, RecordQuerySerializer)
        found = selectors.records(query.get("host"))
        return array(request, found, RecordSerializer, query)

    @extend_schema(
        request={JSON: json_schema(Route)},
        responses={201: RecordSerializer} | problem(409, "The service has a record already."),
        parameters=[location_of("the record")],
    )
    def post(self, request: Request) -> Response:
        """Adds a routing record."""
        body = _read(request.data, known=("service", "hosts", "weights"), required=("service", "hosts"))
        record = services.add_record(body["service"], body["hosts"], body.get("weights"), self.user_name)
        location = {"Location": below(request, record.service)}
        return Response(RecordSerializer(record).data, status.HTTP_201_CREATED, headers=location)


class RecordView(RoutingView):
    @extend_schema(responses=RecordSerializer)
    def get(self, request: Request, service: str) -> Response:
        """Shows the routing record of a service."""
        record = selectors.record(service)
        if record is None:
            raise services.RecordMissing(service)
        return Response(RecordSerializer(record).data)

    @extend_schema(request={JSON: json_schema(Targets)}, responses=RecordSerializer)
    def put(self, request: Request, service: str) -> Response:
        """Creates or replaces the routing record of a service."""
        body = _read(request.data, known=("hosts", "weights"), required=("hosts",))
        record = services.set_record(service, body["hosts"], body.get("weights"), self.user_name)
        return Response(RecordSerializer(record).data)

    @extend_schema(request={JSON: json_schema(ChangedTargets)}, responses=RecordSerializer)
    def patch(self, request: Request, service: str) -> Response:
        """Changes hosts, weights or both of a routing record."""
        body = _read(request.data, known=("hosts", "weights"))
        if all(value is None for value in body.values()):
            raise InvalidInput.of(BODY, Code.REQUIRED, "must have hosts, weights or both")
        record = services.change_record(service, body.get("hosts"), body.get("weights"), self.user_name)
        return Response(RecordSerializer(record).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, service: str) -> Response:
        """Removes the routing record of a service."""
        if not services.remove_record(service, self.user_name):
            raise services.RecordMissing(service)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ServiceSerializer(PlainSerializer):
    name = serializers.CharField()


class ServiceListView(RoutingView):
    resource_type = "ServicesResource"

    @lists(WindowSerializer, ServiceSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the services that have routing records, as objects with a name, as in the original."""
        named = [{"name": record.service} for record in selectors.records()]
        return array(request, named, ServiceSerializer, parse_query(request, WindowSerializer))


def _read(body: object, known: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    """Returns the body's fields; the services check their values. Raises InvalidInput."""
    if not isinstance(body, dict):
        raise InvalidInput.of(BODY, Code.TYPE, f"must be an object with {', '.join(known)}")
    message = f"is unknown; known are {', '.join(known)}"
    errors = [FieldError(name, Code.UNKNOWN, message) for name in body if name not in known]
    errors += [FieldError(name, Code.REQUIRED, "is required") for name in required if body.get(name) is None]
    if errors:
        raise InvalidInput(errors)
    return body
