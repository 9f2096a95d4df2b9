"""The workers, and how long each takes to answer."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.base import View
from experiments.api.pages import WindowSerializer, array, asked, checked, lists
from experiments.api.permissions import ModelPermissions
from experiments.api.serializers import NumberField, PlainSerializer, WorkerSerializer
from experiments.models import Worker
from experiments.services import pinging
from loadgen.protocol.environment import NAME_PATTERN, PREFIX

_LABEL = rf"^{NAME_PATTERN.pattern}=.*$"


class WorkerQuerySerializer(WindowSerializer):
    label = serializers.ListField(  # type: ignore[assignment]
        child=serializers.RegexField(_LABEL, error_messages={"invalid": "a label like zone=A is needed"}),
        required=False,
        help_text="only those with this label, like zone=A; may be given again for further ones",
    )


class WorkerListView(View):
    queryset = Worker.objects.none()

    @lists(WorkerQuerySerializer, WorkerSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the live workers, by name."""
        wanted = asked(request, WorkerQuerySerializer)
        pairs = (label.split("=", 1) for label in wanted.get("label", []))
        found = selectors.live_workers({name.removeprefix(PREFIX): value for name, value in pairs})
        return array(request, found, lambda some: WorkerSerializer(some, many=True).data, wanted)


class WorkerView(View):
    queryset = Worker.objects.none()

    @extend_schema(responses=WorkerSerializer)
    def get(self, request: Request, name: str) -> Response:
        """Shows a worker, live or not; `status` tells."""
        found = selectors.worker(name)
        if found is None:
            raise NotFound(f"There is no worker {name}.")
        return Response(WorkerSerializer(found).data)


class PingSerializer(PlainSerializer):
    timeout_s = NumberField(min_value=0.01, max_value=10, default=1.0, help_text="how long to wait")


class PingPermissions(ModelPermissions):
    """A ping changes nothing."""

    perms_map = {**ModelPermissions.perms_map, "POST": ModelPermissions.perms_map["GET"]}


class PingView(View):
    permission_classes = [PingPermissions]
    queryset = Worker.objects.none()

    @extend_schema(
        request=PingSerializer,
        responses=OpenApiResponse(
            {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
            "Seconds from the call to the answer, by the worker's name; null: it did not answer in time.",
        ),
    )
    def post(self, request: Request) -> Response:
        """Calls each live worker through the broker, and tells how long it took to answer."""
        return Response(pinging.ping(checked(PingSerializer, request.data)["timeout_s"]))
