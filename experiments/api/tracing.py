"""Whether an interactive experiment's traces are stored, over REST."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.api.base import View, unknown_experiment
from experiments.api.pages import JSON
from experiments.api.plan_schema import TRACING
from experiments.api.schema import problem
from experiments.api.serializers import PlainSerializer
from experiments.models import Experiment
from experiments.plans.commands import parse_tracing
from experiments.services import interactive


class TracingSerializer(PlainSerializer):
    tracing = serializers.BooleanField(help_text="whether traces are stored from now on")


class TracingView(View):
    queryset = Experiment.objects.none()

    @extend_schema(
        request={JSON: TRACING},
        responses={200: TracingSerializer} | problem(409, "The experiment is not interactive and running."),
        operation_id="experiments_tracing",
    )
    def post(self, request: Request, experiment_id: str) -> Response:
        """Pauses the traces of an interactive experiment, or resumes them. Its statistics go on in any case."""
        tracing = parse_tracing(request.data)
        try:
            experiment = interactive.trace(experiment_id, tracing)
        except Experiment.DoesNotExist:
            raise unknown_experiment(experiment_id) from None
        return Response({"tracing": experiment.tracing})
