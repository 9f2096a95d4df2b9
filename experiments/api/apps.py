"""The repository of client apps: the original's routes, and the versions of an app."""

from __future__ import annotations

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.access import ModelPermissions
from experiments.api.base import View, array, below, lists, not_found
from experiments.api.parsing import BoundedParser, parse_query
from experiments.api.schema import location_of
from experiments.api.serializers import FilterField, FreeField, ModelSerializer, TimestampField, WindowSerializer
from experiments.downloads import file_download
from experiments.models import ClientApp, ClientAppVersion
from experiments.services import apps as services
from loadgen.apps.archive import MAX_ARCHIVE_BYTES
from routing.errors import NotFound, Unavailable

ZIP = "application/zip"


class ArchiveParser(BoundedParser):
    """Reads a body of any media type: the original's client does not send one."""

    media_type = "*/*"
    thing = "archive"
    most = MAX_ARCHIVE_BYTES


class AppPermissions(ModelPermissions):
    """Uploading an app executes code on workers, and needs a permission of its own."""

    perms_map = {**ModelPermissions.perms_map, "POST": ["%(app_label)s.upload_%(model_name)s"]}


class AppSerializer(ModelSerializer):
    name = serializers.CharField(source="app.name")
    manifest = FreeField()

    class Meta:
        model = ClientAppVersion
        fields = ["name", "manifest"]


class AppVersionSerializer(ModelSerializer):
    version = serializers.IntegerField(source="number")
    manifest = FreeField()
    created = TimestampField(source="created_at")

    class Meta:
        model = ClientAppVersion
        fields = read_only_fields = [
            "version", "digest", "manifest", "archive_bytes", "unpacked_bytes", "creator", "created",
        ]  # fmt: skip


class AppQuerySerializer(WindowSerializer):
    creator = FilterField(help_text="the user who uploaded the newest version; exact match")


class AppsView(View):
    """The base of the resources of client apps."""

    resource_type = "RepositoryResource"
    permission_classes = [AppPermissions]
    parser_classes = [ArchiveParser]
    queryset = ClientApp.objects.none()


class AppListView(AppsView):
    @lists(AppQuerySerializer, AppSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the client apps in their newest versions, by name."""
        query = parse_query(request, AppQuerySerializer)
        exactly = {name: query[name] for name in ("creator",) if name in query}
        found = selectors.newest_versions(**exactly)
        return array(request, found, AppSerializer, query)

    @extend_schema(
        request={ZIP: OpenApiTypes.BINARY}, responses={201: AppSerializer}, parameters=[location_of("the app")]
    )
    def post(self, request: Request) -> Response:
        """Uploads a client app. The body is a zip archive, and becomes the newest version of the app that its manifest
        names. This executes code on workers, and needs the permission `upload_clientapp`."""
        data = request.data if isinstance(request.data, bytes) else b""  # DRF does not parse an empty body
        try:
            version = services.upload(data, creator=self.user_name)
        except OSError as error:
            raise Unavailable(f"galileo_apps_repo_dir cannot be written: {error.strerror}") from error
        location = {"Location": below(request, version.app.name)}
        return Response(AppSerializer(version).data, status.HTTP_201_CREATED, headers=location)


class AppView(AppsView):
    @extend_schema(responses=AppSerializer)
    def get(self, request: Request, name: str) -> Response:
        """Shows a client app in its newest version."""
        return Response(AppSerializer(_newest(name)).data)

    @extend_schema(responses={200: OpenApiResponse(bool, "Whether the app existed.")})
    def delete(self, request: Request, name: str) -> Response:
        """Deletes a client app with all its versions. Returns whether it existed, as in the original."""
        return Response(services.delete(name))


class AppVersionsView(AppsView):
    @lists(WindowSerializer, AppVersionSerializer(many=True))
    def get(self, request: Request, name: str) -> Response:
        """Lists the versions of a client app, newest first."""
        _newest(name)
        found = selectors.client_app_versions(name)
        query = parse_query(request, WindowSerializer)
        return array(request, found, AppVersionSerializer, query)


class AppDownloadView(AppsView):
    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """Ignores the Accept header, as the original does."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(responses={(200, ZIP): OpenApiTypes.BINARY})
    def get(self, request: Request, name: str) -> HttpResponseBase:
        """Downloads the newest archive of a client app."""
        version = _newest(name)
        try:
            return file_download(request, services.archive_file(version.digest), f"{name}.zip", ZIP)
        except OSError as error:
            raise NotFound(f"The archive of client app {name} cannot be read: {error.strerror}.") from error


def _newest(name: str) -> ClientAppVersion:
    version = selectors.newest_version(name)
    if version is None:
        raise not_found("client app", name)
    return version
