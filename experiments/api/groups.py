"""Interactive client groups over REST: spawn, command, add, close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import AnonymousUser
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.permissions import ModelPermissions
from experiments.api.serializers import TimestampField
from experiments.api.views import View
from experiments.models import ClientGroup
from experiments.plans import parse_group
from experiments.plans.commands import parse_clients, parse_command
from experiments.plans.recorded_gaps import Readers, lists_of
from experiments.services import groups as services
from routing.connection import redis_client

# DRF's own classes take no type parameters at run time.
if TYPE_CHECKING:
    GroupModelSerializer = serializers.ModelSerializer[ClientGroup]
else:
    GroupModelSerializer = serializers.ModelSerializer


class GroupSerializer(GroupModelSerializer):
    """An interactive group: `does` and `sends` are for people, `command` is what it was told last.

    `ready` says whether all clients that were asked for can send.
    """

    service = serializers.CharField(source="workload.service")
    experiment = serializers.CharField(source="experiment_id")
    clients = serializers.IntegerField(source="total_clients")
    command = serializers.JSONField(source="phase")
    does = serializers.SerializerMethodField()
    sends = serializers.SerializerMethodField()
    ready = serializers.SerializerMethodField()
    created = TimestampField()
    ended = TimestampField()

    class Meta:
        model = ClientGroup
        fields = [
            "id", "service", "creator", "state", "experiment", "clients", "ready", "does", "sends", "command",
            "created", "ended",
        ]  # fmt: skip

    def get_does(self, group: ClientGroup) -> str:
        return selectors.doing(group)

    def get_sends(self, group: ClientGroup) -> str:
        return selectors.sends(group)

    def get_ready(self, group: ClientGroup) -> bool:
        return not group.pending and group.state == ClientGroup.State.RUN


class GroupView(View):
    """What the resources of groups share: to command one, it takes what it takes to change one."""

    permission_classes = [ModelPermissions]
    queryset = ClientGroup.objects.none()  # names the model for the permissions

    def found(self, group_id: str) -> ClientGroup:
        group = ClientGroup.objects.select_related("workload").filter(id=group_id, interactive=True).first()
        if group is None:
            raise NotFound(f"There is no client group {group_id}.")
        return group


class GroupListView(GroupView):
    def get(self, request: Request) -> Response:
        """The groups that are not closed."""
        return Response(GroupSerializer(selectors.open_groups(), many=True).data)

    def post(self, request: Request) -> Response:
        """Spawns a group; its clients send nothing until they are told to, and can when it is `ready`."""
        workload = parse_group(request.data)
        assert not isinstance(request.user, AnonymousUser)  # its permissions were checked
        group = services.spawn(workload, request.user.get_username())
        location = {"Location": f"/api/groups/{group.id}"}
        return Response(GroupSerializer(group).data, status.HTTP_201_CREATED, headers=location)


class GroupDetailView(GroupView):
    def get(self, request: Request, group_id: str) -> Response:
        """The group, with requests and failures of each client under `info`."""
        group = self.found(group_id)
        info = [vars(client) for client in selectors.clients_of(group)]
        return Response({**GroupSerializer(group).data, "info": info})

    def delete(self, request: Request, group_id: str) -> Response:
        """Closes the group."""
        services.close(self.found(group_id).id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class GroupCommandView(GroupView):
    """Needs the permission to add groups, as everything does that makes load."""

    def post(self, request: Request, group_id: str) -> Response:
        """Takes `{"rps": 2.5}`, of each client, or `{"n": 10, "ia": ["expovariate", 5]}`; answers its number."""
        group = self.found(group_id)
        lists = lists_of(redis_client(), group.id, selectors.client_indexes(group))
        command = parse_command(request.data, Readers(own_lists=lists))
        return Response({"number": services.command(group.id, **command)})


class GroupClientsView(GroupView):
    def post(self, request: Request, group_id: str) -> Response:
        """Takes `{"add": 3}` or `{"close": 2}`."""
        group = self.found(group_id)
        added, closed = parse_clients(request.data)
        if added:
            services.add(group.id, added)
        if closed:
            services.close(group.id, closed)
        return Response(GroupSerializer(self.found(group_id)).data)
