"""Experiments: submitted as plans, listed, shown, cancelled and deleted; an interactive experiment's tracing."""

from __future__ import annotations

from functools import partial
from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import plans, selectors
from experiments.api.access import ModelPermissions
from experiments.api.base import JSON, View, array, below, experiment_of, lists
from experiments.api.parsing import parse_body, parse_query
from experiments.api.schema import location_of, problem
from experiments.api.serializers import (
    EventSerializer,
    FilterField,
    FreeField,
    ModelSerializer,
    PlainSerializer,
    TextField,
    TimestampField,
    WindowSerializer,
)
from experiments.models import Experiment, ExperimentStatus
from experiments.plans.commands import Tracing, parse_tracing
from experiments.plans.parsing import json_schema
from experiments.plans.recordings import LISTS, read_lists, with_recordings
from experiments.services import ending, experiments, interactive
from loadgen.protocol.topics import MAX_EVENT_VALUE
from routing.errors import NotFound
from routing.redis import redis_client

MAX_EVENTS_SHOWN = 1000
# As a PUT to /api/routing, a plan may add a record or change one.
ROUTING_PERMISSIONS = ("routing.add_routingrecord", "routing.change_routingrecord")


class ExperimentSerializer(ModelSerializer):
    """An experiment as lists show it."""

    status = serializers.SerializerMethodField(help_text="status, in the words of the original Galileo")
    phase = serializers.ChoiceField(
        ExperimentStatus.choices, source="status", read_only=True, help_text="the step of the life cycle"
    )
    deleting = serializers.BooleanField(source="deletion_requested", read_only=True)
    created = TimestampField(source="created_at")
    start = TimestampField(source="started_at", allow_null=True, help_text="time 0 of its schedule")
    end = TimestampField(source="ended_at", allow_null=True, help_text="when the load ended")

    class Meta:
        model = Experiment
        fields = read_only_fields = ["id", "name", "creator", "status", "phase", "deleting", "created", "start", "end"]

    @extend_schema_field(serializers.ChoiceField(list(selectors.WORDS)))
    def get_status(self, experiment: Experiment) -> str:
        return selectors.WORD_OF[experiment.status]


class RecordingSerializer(PlainSerializer):
    """Telemetry and events that were not stored; null if the recorder has not seen the experiment."""

    unparsable = serializers.IntegerField(help_text="number of messages that could not be parsed")
    example = serializers.CharField(help_text="the first of them")
    dropped = serializers.IntegerField(help_text="number of messages dropped while the database was unavailable")


class ExperimentDetailSerializer(ExperimentSerializer):
    """An experiment with its plan, timeline and summary."""

    plan = FreeField(read_only=True, help_text="the plan with every default (docs/plans.md)")
    metadata = FreeField(read_only=True)
    summary = FreeField(read_only=True, allow_null=True, help_text="account, times and verdict (docs/verdict.md)")
    recording = serializers.SerializerMethodField()
    events = serializers.SerializerMethodField(
        help_text=f"the first {MAX_EVENTS_SHOWN:,} of the timeline; …/events has all of them"
    )

    class Meta(ExperimentSerializer.Meta):
        fields = read_only_fields = [
            *ExperimentSerializer.Meta.fields, "reason", "seed", "plan", "metadata", "tracing", "summary", "recording",
            "events",
        ]  # fmt: skip

    @extend_schema_field(RecordingSerializer(allow_null=True))
    def get_recording(self, experiment: Experiment) -> dict[str, Any] | None:
        return selectors.recording(experiment.id)

    @extend_schema_field(EventSerializer(many=True))
    def get_events(self, experiment: Experiment) -> list[dict[str, Any]]:
        shown = selectors.timeline(experiment.id)[:MAX_EVENTS_SHOWN]
        return list(EventSerializer(shown, many=True).data)


class ExperimentQuerySerializer(WindowSerializer):
    status = serializers.ChoiceField(list(selectors.WORDS), required=False)
    creator = FilterField(help_text="exact match")
    name = FilterField(help_text="exact match")


class ExperimentListView(View):
    resource_type = "ExperimentsResource"
    queryset = Experiment.objects.none()

    @lists(ExperimentQuerySerializer, ExperimentSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the experiments, newest first."""
        query = parse_query(request, ExperimentQuerySerializer)
        exactly = {name: query[name] for name in ("creator", "name") if name in query}
        found = selectors.experiments(query.get("status"), **exactly)
        return array(request, found, ExperimentSerializer, query)

    @extend_schema(
        request={JSON: json_schema(plans.Plan)},
        responses={201: OpenApiResponse(str, "The id of the experiment.")}
        | problem(409, "An experiment with this id exists."),
        parameters=[location_of("the experiment")],
    )
    def post(self, request: Request) -> Response:
        """Queues an experiment from its plan. The response is its id, a JSON string. A plan with `routing` needs the
        permissions to add and to change routing records, too."""
        data = with_recordings(request.data, {LISTS: partial(read_lists, redis_client())})
        plan = plans.parse(data, selectors.client_app_of)
        _check_routing(request, plan)
        experiments.check_workers(plan)
        experiment = experiments.create(plan, creator=self.user_name)
        location = {"Location": below(request, experiment.id)}
        return Response(experiment.id, status.HTTP_201_CREATED, headers=location)


def _check_routing(request: Request, plan: plans.Plan) -> None:
    """Raises PermissionDenied when the plan sets routes, for which its user needs the permissions of /api/routing."""
    missing = [name for name in ROUTING_PERMISSIONS if not request.user.has_perm(name)]
    if plan.routing and missing:
        raise PermissionDenied(
            f"The plan's `routing` changes the routing table, and needs the permissions {', '.join(missing)}: remove "
            "`routing`, to use the table as it is, or ask an administrator for them."
        )


class CancelSerializer(PlainSerializer):
    reason = TextField(max_length=MAX_EVENT_VALUE, allow_blank=True, default="", help_text="shown on the timeline")


class CancelPermissions(ModelPermissions):
    """Cancelling an experiment needs the permission to change it, as in the admin."""

    perms_map = {**ModelPermissions.perms_map, "POST": ["%(app_label)s.change_%(model_name)s"]}


class ExperimentView(View):
    queryset = Experiment.objects.none()

    @extend_schema(responses=ExperimentDetailSerializer)
    def get(self, request: Request, experiment_id: str) -> Response:
        """Shows an experiment, with its plan, its timeline and its summary."""
        return Response(ExperimentDetailSerializer(experiment_of(experiment_id)).data)

    @extend_schema(
        responses={
            200: OpenApiResponse(str, "The id. The experiment was queued or had ended, and is deleted."),
            202: OpenApiResponse(str, "The id. The experiment is active, and is deleted when it has ended."),
        }
    )
    def delete(self, request: Request, experiment_id: str) -> Response:
        """Deletes an experiment. An active one is stopped first, and deleted when its load has ended. The response
        is its id, a JSON string."""
        active = experiments.delete(experiment_id)
        return Response(experiment_id, status.HTTP_200_OK if active is None else status.HTTP_202_ACCEPTED)


class CancelView(View):
    permission_classes = [CancelPermissions]
    queryset = Experiment.objects.none()

    @extend_schema(
        request=CancelSerializer,
        responses={
            200: OpenApiResponse(ExperimentSerializer, "The experiment has ended, now or before."),
            202: OpenApiResponse(ExperimentSerializer, "The load is stopping; outstanding results are still stored."),
        },
    )
    def post(self, request: Request, experiment_id: str) -> Response:
        """Stops the load of an experiment, which then ends as CANCELLED. Its results are kept."""
        reason = parse_body(request.data, CancelSerializer)["reason"]
        by = f"cancelled by {self.user_name}"
        experiment = ending.cancel(experiment_id, f"{by}: {reason}" if reason else by)
        code = status.HTTP_200_OK if experiment.has_ended else status.HTTP_202_ACCEPTED
        return Response(ExperimentSerializer(experiment).data, code)


class SummaryView(View):
    queryset = Experiment.objects.none()

    @extend_schema(
        responses=OpenApiResponse({"type": "object", "additionalProperties": True}, "docs/verdict.md describes it.")
    )
    def get(self, request: Request, experiment_id: str) -> Response:
        """Shows the summary of an experiment that has ended, with its account and its verdict."""
        experiment = experiment_of(experiment_id)
        if experiment.summary is None:
            raise NotFound(_no_summary(experiment))
        return Response(experiment.summary)


def _no_summary(experiment: Experiment) -> str:
    if not experiment.has_ended:
        return f"The experiment {experiment.id} is {experiment.status}; its summary is made when it has ended."
    reason = f": {experiment.reason}" if experiment.reason else ""
    return f"The experiment {experiment.id} ended as {experiment.status} without a summary{reason}."


class TracingSerializer(PlainSerializer):
    tracing = serializers.BooleanField(help_text="whether traces are stored from now on")


class TracingView(View):
    queryset = Experiment.objects.none()

    @extend_schema(
        request={JSON: json_schema(Tracing)},
        responses={200: TracingSerializer} | problem(409, "The experiment is not interactive, or not running."),
        operation_id="experiments_tracing",
    )
    def post(self, request: Request, experiment_id: str) -> Response:
        """Pauses or resumes the traces of an interactive experiment. Its statistics continue in any case."""
        tracing = parse_tracing(request.data)
        experiment = interactive.trace(experiment_id, tracing)
        return Response({"tracing": experiment.tracing})
