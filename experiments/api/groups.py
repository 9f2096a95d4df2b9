"""Interactive client groups: spawned, listed, commanded, grown, shrunk and closed."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.base import JSON, View, array, below, lists, not_found
from experiments.api.parsing import parse_query
from experiments.api.schema import location_of, problem
from experiments.api.serializers import (
    FilterField,
    FreeField,
    ModelSerializer,
    PlainSerializer,
    TimestampField,
    WindowSerializer,
)
from experiments.models import ClientGroup, GroupState
from experiments.plans import GroupWorkload, parse_group
from experiments.plans.commands import ClientsChange, Command, Readers, lists_of, parse_clients, parse_command
from experiments.plans.parsing import json_schema
from experiments.services import groups as services
from routing.redis import redis_client

NOT_OPEN = "The group is closed, or not ready yet."


class GroupSerializer(ModelSerializer):
    """An interactive client group."""

    service = serializers.CharField(source="workload.service")
    experiment = serializers.CharField(
        source="experiment_id", allow_null=True, help_text="the interactive experiment that records the group now"
    )
    clients = serializers.IntegerField(source="total_clients")
    command = FreeField(source="interactive.command_fields", help_text="the last command")
    does = serializers.SerializerMethodField(help_text="the load, for people")
    sends = serializers.SerializerMethodField(help_text="the requests, for people")
    ready = serializers.SerializerMethodField(help_text="whether all clients can send")
    creator = serializers.CharField(
        source="interactive.creator", read_only=True, help_text="the person or program that created it"
    )
    created = TimestampField(source="created_at")
    ended = TimestampField(source="interactive.ended_at", allow_null=True, help_text="when its last shard ended")

    class Meta:
        model = ClientGroup
        fields = read_only_fields = [
            "id", "service", "creator", "state", "experiment", "clients", "ready", "does", "sends", "command",
            "created", "ended",
        ]  # fmt: skip

    def get_does(self, group: ClientGroup) -> str:
        return selectors.doing(group)

    def get_sends(self, group: ClientGroup) -> str:
        return selectors.sends(group)

    def get_ready(self, group: ClientGroup) -> bool:
        return not group.interactive_part.pending and group.state == GroupState.RUN


class ClientSerializer(PlainSerializer):
    client_id = serializers.CharField()
    requests = serializers.IntegerField(help_text="number of requests so far, about a second old")
    failures = serializers.IntegerField(help_text="number of failed requests so far")


class GroupDetailSerializer(GroupSerializer):
    """An interactive client group with its clients."""

    info = serializers.SerializerMethodField(help_text="the open clients")

    class Meta(GroupSerializer.Meta):
        fields = read_only_fields = [*GroupSerializer.Meta.fields, "info"]

    @extend_schema_field(ClientSerializer(many=True))
    def get_info(self, group: ClientGroup) -> list[dict[str, Any]]:
        return [vars(client) for client in selectors.clients_of(group)]


class NumberSerializer(PlainSerializer):
    number = serializers.IntegerField(help_text="number of the command in the group")


class GroupQuerySerializer(WindowSerializer):
    service = FilterField(source="workload__service", help_text="exact match")
    creator = FilterField(source="interactive_part__creator", help_text="exact match")


class GroupView(View):
    """The base of the resources of groups."""

    queryset = ClientGroup.objects.none()

    def found(self, group_id: str) -> ClientGroup:
        group = (
            ClientGroup.objects.interactive().select_related("workload", "interactive_part").filter(id=group_id).first()
        )
        if group is None:
            raise not_found("client group", group_id)
        return group


class GroupListView(GroupView):
    @lists(GroupQuerySerializer, GroupSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the interactive client groups that are not closed, oldest first."""
        query = parse_query(request, GroupQuerySerializer)
        exactly = {name: query[name] for name in ("workload__service", "interactive_part__creator") if name in query}
        found = selectors.open_groups(**exactly)
        return array(request, found, GroupSerializer, query)

    @extend_schema(
        request={JSON: json_schema(GroupWorkload)},
        responses={201: GroupSerializer},
        parameters=[location_of("the group")],
    )
    def post(self, request: Request) -> Response:
        """Spawns a client group. Its clients send nothing before the first command, and can send when it is `ready`."""
        workload = parse_group(request.data, selectors.client_app_of)
        group = services.spawn(workload, self.user_name)
        location = {"Location": below(request, group.id)}
        return Response(GroupSerializer(group).data, status.HTTP_201_CREATED, headers=location)


class GroupDetailView(GroupView):
    @extend_schema(responses=GroupDetailSerializer)
    def get(self, request: Request, group_id: str) -> Response:
        """Shows a client group, with requests and failures of each client."""
        return Response(GroupDetailSerializer(self.found(group_id)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, group_id: str) -> Response:
        """Closes a client group."""
        services.close(self.found(group_id).id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class GroupCommandView(GroupView):
    """Commands need the permission to add groups, like every operation that makes load."""

    @extend_schema(
        request={JSON: json_schema(Command)},
        responses={200: NumberSerializer} | problem(409, NOT_OPEN),
        operation_id="groups_command",
    )
    def post(self, request: Request, group_id: str) -> Response:
        """Commands a group: `{"rps": 2.5}` sets the rate of each client, `{"n": 10}` has each send ten requests."""
        group = self.found(group_id)
        lists = lists_of(redis_client(), group.id, selectors.client_indexes(group))
        command = parse_command(request.data, Readers(own_lists=lists))
        return Response({"number": services.command(group.id, **command)})


class GroupClientsView(GroupView):
    @extend_schema(
        request={JSON: json_schema(ClientsChange)},
        responses={200: GroupSerializer} | problem(409, NOT_OPEN),
        operation_id="groups_clients",
    )
    def post(self, request: Request, group_id: str) -> Response:
        """Adds clients to a group or closes some of them: `{"add": 3}`, `{"close": 2}`."""
        group = self.found(group_id)
        added, closed = parse_clients(request.data)
        if added:
            services.add(group.id, added)
        if closed:
            services.close(group.id, closed)
        return Response(GroupSerializer(self.found(group_id)).data)
