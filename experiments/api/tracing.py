"""Whether an interactive experiment's traces are stored, over REST."""

from __future__ import annotations

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.api.permissions import ModelPermissions
from experiments.api.views import View, unknown_experiment
from experiments.models import Experiment
from experiments.plans.commands import parse_tracing
from experiments.services import interactive


class TracingView(View):
    permission_classes = [ModelPermissions]
    queryset = Experiment.objects.none()  # names the model for the permissions

    def post(self, request: Request, experiment_id: str) -> Response:
        """Takes `{"tracing": false}` to pause, `true` to resume; 409 when it is not interactive and running."""
        tracing = parse_tracing(request.data)
        try:
            experiment = interactive.trace(experiment_id, tracing)
        except Experiment.DoesNotExist:
            raise unknown_experiment(experiment_id) from None
        except interactive.NotRunning as error:
            return Response({"detail": str(error)}, status.HTTP_409_CONFLICT)
        return Response({"tracing": experiment.tracing})
