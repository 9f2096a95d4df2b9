"""The workers that are there."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.base import View
from experiments.api.pages import WindowSerializer, array, asked, lists
from experiments.api.serializers import WorkerSerializer
from experiments.models import Worker
from loadgen.environment import NAME_PATTERN, PREFIX

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
