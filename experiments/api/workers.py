"""The workers, and a ping of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.access import ModelPermissions
from experiments.api.base import View, array, lists, not_found
from experiments.api.parsing import parse_body, parse_query
from experiments.api.serializers import NumberField, PlainSerializer, TimestampField, WindowSerializer
from experiments.models import Worker, WorkerStatus
from experiments.services import workers
from loadgen.protocol.settings import NAME_PATTERN
from loadgen.protocol.variables import PREFIX

_LABEL = rf"^{NAME_PATTERN.pattern}=.*$"


class WorkerSerializer(PlainSerializer):
    """A worker. `clock_offset_ns` is the broker's clock minus the worker's monotonic clock, ± the uncertainty."""

    name = serializers.CharField(source="worker.name")
    status = serializers.ChoiceField(WorkerStatus.choices, source="worker.status")
    labels = serializers.DictField(child=serializers.CharField(), source="worker.labels")
    slots = serializers.IntegerField(source="worker.slots")
    used_slots = serializers.IntegerField()
    cores = serializers.IntegerField(source="worker.cores")
    memory_bytes = serializers.IntegerField(source="worker.memory_bytes")
    machine = serializers.CharField(source="worker.machine")
    versions = serializers.DictField(child=serializers.CharField(), source="worker.versions", help_text="by package")
    started = TimestampField(source="worker.started_at")
    heartbeat = TimestampField(source="worker.heartbeat_at")
    clock_offset_ns = serializers.IntegerField(source="worker.clock_offset_ns")
    clock_uncertainty_ns = serializers.IntegerField(source="worker.clock_uncertainty_ns")


class WorkerNameSerializer(PlainSerializer):
    """The name of a worker, as a string."""

    def to_representation(self, instance: selectors.WorkerLoad) -> str:  # type: ignore[override]
        return instance.worker.name


class WorkerQuerySerializer(WindowSerializer):
    label = serializers.ListField(  # type: ignore[assignment]
        child=serializers.RegexField(_LABEL, error_messages={"invalid": "Must be a label like zone=A."}),
        required=False,
        help_text="only workers with this label, such as zone=A; may be repeated",
    )


class WorkerNamesView(View):
    resource_type = "WorkerResource"
    queryset = Worker.objects.none()

    @lists(WorkerQuerySerializer, serializers.ListSerializer(child=serializers.CharField()))
    def get(self, request: Request) -> Response:
        """Lists the names of the live workers, as in the original."""
        query = parse_query(request, WorkerQuerySerializer)
        return array(request, _live(query), WorkerNameSerializer, query)


class WorkerListView(View):
    resource_type = "WorkersResource"
    queryset = Worker.objects.none()

    @lists(WorkerQuerySerializer, WorkerSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the live workers with labels, slots and clock, by name."""
        query = parse_query(request, WorkerQuerySerializer)
        return array(request, _live(query), WorkerSerializer, query)


def _live(query: Mapping[str, Any]) -> list[selectors.WorkerLoad]:
    """Returns the live workers that have all of the query's labels, by name."""
    pairs = (label.split("=", 1) for label in query.get("label", []))
    return selectors.live_workers({name.removeprefix(PREFIX): value for name, value in pairs})


class WorkerView(View):
    queryset = Worker.objects.none()

    @extend_schema(responses=WorkerSerializer)
    def get(self, request: Request, name: str) -> Response:
        """Shows a worker, live or not; see its `status`."""
        found = selectors.worker(name)
        if found is None:
            raise not_found("worker", name)
        return Response(WorkerSerializer(found).data)


class PingSerializer(PlainSerializer):
    timeout_s = NumberField(min_value=0.01, max_value=10, default=1.0, help_text="how long to wait, in seconds")


class PingPermissions(ModelPermissions):
    """A ping needs the permission to read, as it changes nothing."""

    perms_map = {**ModelPermissions.perms_map, "POST": ModelPermissions.perms_map["GET"]}


class PingView(View):
    permission_classes = [PingPermissions]
    queryset = Worker.objects.none()

    @extend_schema(
        request=PingSerializer,
        responses=OpenApiResponse(
            {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
            "Round-trip time in seconds by the worker's name; null: no response within `timeout_s`.",
        ),
    )
    def post(self, request: Request) -> Response:
        """Pings each live worker through the broker. Returns the round-trip times."""
        return Response(workers.ping(parse_body(request.data, PingSerializer)["timeout_s"]))
