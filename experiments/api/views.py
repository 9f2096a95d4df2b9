"""The resources of the API."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework import status
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from experiments import plans, selectors
from experiments.api import problems
from experiments.api.parsing import StrictJSONParser
from experiments.api.permissions import ModelPermissions
from experiments.api.serializers import ExperimentDetailSerializer, ExperimentSerializer, WorkerSerializer
from experiments.models import Experiment, Worker
from experiments.plans.recordings import LISTS, read_lists, with_recordings
from experiments.services import experiments as services
from routing import selectors as routing_selectors
from routing.connection import redis_client
from routing.models import RoutingRecord

ROUTES = [
    {"path": "/api", "methods": ["GET"], "does": "lists the routes"},
    {"path": "/api/experiments", "methods": ["GET", "POST"], "does": "lists experiments, queues one from a plan"},
    {"path": "/api/experiments/<id>", "methods": ["GET", "DELETE"], "does": "shows an experiment, stops or removes it"},
    {"path": "/api/experiments/<id>/traces", "methods": ["GET"], "does": "traces, as JSON or CSV"},
    {"path": "/api/experiments/<id>/telemetry", "methods": ["GET"], "does": "telemetry, as JSON or CSV"},
    {"path": "/api/experiments/<id>/events", "methods": ["GET", "POST"], "does": "the timeline, and setting a mark"},
    {
        "path": "/api/experiments/<id>/tracing",
        "methods": ["POST"],
        "does": "pauses and resumes an interactive one's traces",
    },
    {"path": "/api/groups", "methods": ["GET", "POST"], "does": "lists interactive client groups, spawns one"},
    {"path": "/api/groups/<id>", "methods": ["GET", "DELETE"], "does": "shows a client group, closes it"},
    {"path": "/api/groups/<id>/command", "methods": ["POST"], "does": "says what its clients do"},
    {"path": "/api/groups/<id>/clients", "methods": ["POST"], "does": "adds clients to a group, closes some"},
    {"path": "/api/services", "methods": ["GET"], "does": "lists the services that have routing records"},
    {"path": "/api/worker", "methods": ["GET"], "does": "lists the live workers"},
    {"path": "/api/routing", "methods": ["GET", "POST"], "does": "lists routing records, adds one"},
    {
        "path": "/api/routing/<service>",
        "methods": ["GET", "PUT", "PATCH", "DELETE"],
        "does": "shows, sets, changes, removes a record",
    },
    {"path": "/api/apps", "methods": ["GET", "POST"], "does": "lists the client apps, adds one from its zip archive"},
    {"path": "/api/apps/<name>", "methods": ["GET", "DELETE"], "does": "shows a client app, removes it"},
    {"path": "/api/apps/<name>/download", "methods": ["GET"], "does": "the newest archive of a client app"},
    {"path": "/api/apps/<name>/versions", "methods": ["GET"], "does": "lists the versions of a client app"},
]


class View(APIView):
    """What all resources share."""

    parser_classes = [StrictJSONParser]

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return problems.handle


class IndexView(View):
    permission_classes = [IsAuthenticated]

    def get(self, request: Request) -> Response:
        return Response({"routes": ROUTES})


class ExperimentListView(View):
    """`?status=` takes one of the original's words: QUEUED, IN_PROGRESS, FINISHED, FAILED, CANCELLED."""

    permission_classes = [ModelPermissions]
    queryset = Experiment.objects.none()  # names the model for the permissions

    def get(self, request: Request) -> Response:
        word = request.query_params.get("status")
        if word is not None and word not in selectors.WORDS:
            raise ValidationError({"errors": [{"field": "status", "message": f"one of {', '.join(selectors.WORDS)}"}]})
        return Response(ExperimentSerializer(selectors.experiments(word), many=True).data)

    def post(self, request: Request) -> Response:
        """The body is a plan; the answer is the id of the experiment, a JSON string as in the original."""
        plan = plans.parse(with_recordings(request.data, {LISTS: partial(read_lists, redis_client())}))
        services.check_workers(plan)
        assert not isinstance(request.user, AnonymousUser)  # its permissions were checked
        experiment = services.create(plan, creator=request.user.get_username())
        location = {"Location": f"/api/experiments/{experiment.id}"}
        return Response(experiment.id, status.HTTP_201_CREATED, headers=location)


class ExperimentView(View):
    permission_classes = [ModelPermissions]
    queryset = Experiment.objects.none()

    def get(self, request: Request, experiment_id: str) -> Response:
        experiment = selectors.experiment(experiment_id)
        if experiment is None:
            raise unknown_experiment(experiment_id)
        return Response(ExperimentDetailSerializer(experiment).data)

    def delete(self, request: Request, experiment_id: str) -> Response:
        """Queued or ended: removed, 204. Active: its load is stopped, 202; a second DELETE removes it."""
        try:
            services.delete(experiment_id)
        except Experiment.DoesNotExist:
            raise unknown_experiment(experiment_id) from None
        except services.ExperimentBusy as busy:
            return Response({"detail": str(busy)}, status.HTTP_202_ACCEPTED)
        return Response(status=status.HTTP_204_NO_CONTENT)


class WorkerListView(View):
    permission_classes = [ModelPermissions]
    queryset = Worker.objects.none()

    def get(self, request: Request) -> Response:
        return Response(WorkerSerializer(selectors.live_workers(), many=True).data)


class ServiceListView(View):
    """The names alone, as in the original; /api/routing has the records."""

    permission_classes = [ModelPermissions]
    queryset = RoutingRecord.objects.none()

    def get(self, request: Request) -> Response:
        return Response([record.service for record in routing_selectors.records()])


class UnknownView(View):
    """Every other path under /api: 404 as JSON, whatever the method."""

    permission_classes = [AllowAny]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound(f"There is no {request.path}; GET /api lists the routes.")


def unknown_experiment(experiment_id: str) -> NotFound:
    return NotFound(f"There is no experiment {experiment_id}.")
