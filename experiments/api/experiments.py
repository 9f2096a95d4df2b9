"""Experiments: submitted as plans, listed, shown, stopped and removed."""

from __future__ import annotations

from functools import partial

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import plans, selectors
from experiments.api.base import View, unknown_experiment
from experiments.api.pages import JSON, FilterField, WindowSerializer, array, asked, checked, lists
from experiments.api.permissions import ModelPermissions
from experiments.api.plan_schema import PLAN
from experiments.api.schema import location_of, problem
from experiments.api.serializers import ExperimentDetailSerializer, ExperimentSerializer, PlainSerializer, TextField
from experiments.models import Experiment
from experiments.plans.recordings import LISTS, read_lists, with_recordings
from experiments.services import deletion
from experiments.services import experiments as services
from loadgen.protocol.topics import MAX_EVENT_VALUE
from routing.redis import redis_client


class ExperimentQuerySerializer(WindowSerializer):
    status = serializers.ChoiceField(list(selectors.WORDS), required=False)
    creator = FilterField(help_text="exactly this one")
    name = FilterField(help_text="exactly this one")


class ExperimentListView(View):
    queryset = Experiment.objects.none()

    @lists(ExperimentQuerySerializer, ExperimentSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the experiments, newest first."""
        wanted = asked(request, ExperimentQuerySerializer)
        exactly = {name: wanted[name] for name in ("creator", "name") if name in wanted}
        found = selectors.experiments(wanted.get("status"), **exactly)
        return array(request, found, lambda some: ExperimentSerializer(some, many=True).data, wanted)

    @extend_schema(
        request={JSON: PLAN},
        responses={201: OpenApiResponse(str, "The experiment's id.")}
        | problem(409, "There is an experiment of this id."),
        parameters=[location_of("the experiment")],
    )
    def post(self, request: Request) -> Response:
        """Queues an experiment from its plan. The answer is its id, a JSON string."""
        data = with_recordings(request.data, {LISTS: partial(read_lists, redis_client())})
        plan = plans.parse(data, selectors.client_app_of)
        services.check_workers(plan)
        assert not isinstance(request.user, AnonymousUser)  # its permissions were checked
        experiment = services.create(plan, creator=request.user.get_username())
        location = {"Location": f"/api/experiments/{experiment.id}"}
        return Response(experiment.id, status.HTTP_201_CREATED, headers=location)


class CancelSerializer(PlainSerializer):
    reason = TextField(max_length=MAX_EVENT_VALUE, allow_blank=True, default="", help_text="is shown on the timeline")


class CancelPermissions(ModelPermissions):
    """As in the admin: to stop an experiment is to change it."""

    perms_map = {**ModelPermissions.perms_map, "POST": ["%(app_label)s.change_%(model_name)s"]}


class ExperimentView(View):
    queryset = Experiment.objects.none()

    @extend_schema(responses=ExperimentDetailSerializer)
    def get(self, request: Request, experiment_id: str) -> Response:
        """Shows an experiment, with its plan, its timeline and its summary."""
        experiment = selectors.experiment(experiment_id)
        if experiment is None:
            raise unknown_experiment(experiment_id)
        return Response(ExperimentDetailSerializer(experiment).data)

    @extend_schema(
        responses={
            204: OpenApiResponse(description="It was queued or had ended, and is removed."),
            202: OpenApiResponse(ExperimentSerializer, "It is active, and is removed when its load has ended."),
        }
    )
    def delete(self, request: Request, experiment_id: str) -> Response:
        """Removes an experiment. The load of an active one is stopped first; it goes by itself when that has ended."""
        try:
            standing = deletion.delete(experiment_id)
        except Experiment.DoesNotExist:
            raise unknown_experiment(experiment_id) from None
        if standing is None:
            return Response(status=status.HTTP_204_NO_CONTENT)
        return Response(ExperimentSerializer(standing).data, status.HTTP_202_ACCEPTED)


class CancelView(View):
    permission_classes = [CancelPermissions]
    queryset = Experiment.objects.none()

    @extend_schema(
        request=CancelSerializer,
        responses={
            200: OpenApiResponse(ExperimentSerializer, "It has ended, now or before, and stays as it is."),
            202: OpenApiResponse(ExperimentSerializer, "Its load is stopped, and what is on the way still comes in."),
        },
    )
    def post(self, request: Request, experiment_id: str) -> Response:
        """Stops the load of an experiment and leads it to CANCELLED; everything is kept."""
        reason = checked(CancelSerializer, request.data)["reason"]
        by = f"cancelled by {request.user.get_username()}"
        try:
            experiment = services.cancel(experiment_id, f"{by}: {reason}" if reason else by)
        except Experiment.DoesNotExist:
            raise unknown_experiment(experiment_id) from None
        has_ended = experiment.status in Experiment.ENDED
        code = status.HTTP_200_OK if has_ended else status.HTTP_202_ACCEPTED
        return Response(ExperimentSerializer(experiment).data, code)


class SummaryView(View):
    queryset = Experiment.objects.none()

    @extend_schema(
        responses=OpenApiResponse({"type": "object", "additionalProperties": True}, "docs/verdict.md tells of it.")
    )
    def get(self, request: Request, experiment_id: str) -> Response:
        """Shows the summary of an experiment, with its account and its verdict. There is none before it has ended."""
        experiment = selectors.experiment(experiment_id)
        if experiment is None:
            raise unknown_experiment(experiment_id)
        if experiment.summary is None:
            raise NotFound(_why_no_summary(experiment))
        return Response(experiment.summary)


def _why_no_summary(experiment: Experiment) -> str:
    if experiment.status not in Experiment.ENDED:
        return f"Experiment {experiment.id} is {experiment.status}; its summary comes when it has ended."
    reason = f": {experiment.reason}" if experiment.reason else ""
    return f"Experiment {experiment.id} ended as {experiment.status} without a summary{reason}."
