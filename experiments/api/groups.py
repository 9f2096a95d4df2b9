"""Interactive client groups over REST: spawn, command, add, close."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.base import View
from experiments.api.pages import JSON, FilterField, WindowSerializer, array, asked, lists
from experiments.api.plan_schema import CLIENTS, COMMAND, GROUP
from experiments.api.schema import location_of, problem
from experiments.api.serializers import FreeField, PlainSerializer, TimestampField
from experiments.models import ClientGroup
from experiments.plans import parse_group
from experiments.plans.commands import parse_clients, parse_command
from experiments.plans.recorded_gaps import Readers, lists_of
from experiments.services import groups as services
from routing.redis import redis_client

NOT_NOW = "The group is closed, or not ready yet."

# DRF's own classes take no type parameters at run time.
if TYPE_CHECKING:
    GroupModelSerializer = serializers.ModelSerializer[ClientGroup]
else:
    GroupModelSerializer = serializers.ModelSerializer


class GroupSerializer(GroupModelSerializer):
    """An interactive client group."""

    service = serializers.CharField(source="workload.service")
    experiment = serializers.CharField(
        source="experiment_id", allow_null=True, help_text="the interactive experiment that records it now"
    )
    clients = serializers.IntegerField(source="total_clients")
    command = FreeField(source="phase", help_text="what it was told last")
    does = serializers.SerializerMethodField(help_text="for people")
    sends = serializers.SerializerMethodField(help_text="for people")
    ready = serializers.SerializerMethodField(help_text="all clients that were asked for can send")
    created = TimestampField()
    ended = TimestampField(allow_null=True, help_text="when all of its shards had ended")

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
        return not group.pending and group.state == ClientGroup.State.RUN


class ClientSerializer(PlainSerializer):
    client_id = serializers.CharField()
    requests = serializers.IntegerField(help_text="so far, as far as they are known: about a second late")
    failures = serializers.IntegerField()


class GroupDetailSerializer(GroupSerializer):
    """An interactive client group with its clients."""

    info = serializers.SerializerMethodField(help_text="the clients that are not closed")

    class Meta(GroupSerializer.Meta):
        fields = read_only_fields = [*GroupSerializer.Meta.fields, "info"]

    @extend_schema_field(ClientSerializer(many=True))
    def get_info(self, group: ClientGroup) -> list[dict[str, Any]]:
        return [vars(client) for client in selectors.clients_of(group)]


class NumberSerializer(PlainSerializer):
    number = serializers.IntegerField(help_text="of the command, counted in the group")


class GroupQuerySerializer(WindowSerializer):
    service = FilterField(source="workload__service", help_text="exactly this one")
    creator = FilterField(help_text="exactly this one")


class GroupView(View):
    """What the resources of groups share: to command one, it takes what it takes to change one."""

    queryset = ClientGroup.objects.none()

    def found(self, group_id: str) -> ClientGroup:
        group = ClientGroup.objects.select_related("workload").filter(id=group_id, interactive=True).first()
        if group is None:
            raise NotFound(f"There is no client group {group_id}.")
        return group


class GroupListView(GroupView):
    @lists(GroupQuerySerializer, GroupSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the interactive client groups that are not closed, oldest first."""
        wanted = asked(request, GroupQuerySerializer)
        exactly = {name: wanted[name] for name in ("workload__service", "creator") if name in wanted}
        found = selectors.open_groups(**exactly)
        return array(request, found, lambda some: GroupSerializer(some, many=True).data, wanted)

    @extend_schema(request={JSON: GROUP}, responses={201: GroupSerializer}, parameters=[location_of("the group")])
    def post(self, request: Request) -> Response:
        """Spawns a client group. Its clients send nothing until they are told to, and can when it is `ready`."""
        workload = parse_group(request.data, selectors.client_app_of)
        assert not isinstance(request.user, AnonymousUser)  # its permissions were checked
        group = services.spawn(workload, request.user.get_username())
        location = {"Location": f"/api/groups/{group.id}"}
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
    """Needs the permission to add groups, as everything does that makes load."""

    @extend_schema(
        request={JSON: COMMAND},
        responses={200: NumberSerializer} | problem(409, NOT_NOW),
        operation_id="groups_command",
    )
    def post(self, request: Request, group_id: str) -> Response:
        """Commands a group: `{"rps": 2.5}` of each client, or `{"n": 10, "ia": ["expovariate", 5]}`."""
        group = self.found(group_id)
        lists = lists_of(redis_client(), group.id, selectors.client_indexes(group))
        command = parse_command(request.data, Readers(own_lists=lists))
        return Response({"number": services.command(group.id, **command)})


class GroupClientsView(GroupView):
    @extend_schema(
        request={JSON: CLIENTS}, responses={200: GroupSerializer} | problem(409, NOT_NOW), operation_id="groups_clients"
    )
    def post(self, request: Request, group_id: str) -> Response:
        """Adds clients to a group, or closes some: `{"add": 3}`, `{"close": 2}`."""
        group = self.found(group_id)
        added, closed = parse_clients(request.data)
        if added:
            services.add(group.id, added)
        if closed:
            services.close(group.id, closed)
        return Response(GroupSerializer(self.found(group_id)).data)
