"""The repository of client apps: what the original's routes answer, and the versions of an app beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser
from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.base import View
from experiments.api.pages import FilterField, WindowSerializer, array, asked, lists
from experiments.api.permissions import ModelPermissions
from experiments.api.schema import location_of
from experiments.api.serializers import FreeField, TimestampField
from experiments.models import ClientApp, ClientAppVersion
from experiments.services import apps as services
from loadgen.apps.archive import MAX_ARCHIVE_BYTES

ZIP = "application/zip"

# DRF's own class takes no type parameters at run time.
if TYPE_CHECKING:
    VersionModelSerializer = serializers.ModelSerializer[ClientAppVersion]
else:
    VersionModelSerializer = serializers.ModelSerializer


class ArchiveTooLarge(APIException):
    status_code = 413
    default_detail = f"The archive is larger than {MAX_ARCHIVE_BYTES:,} bytes."
    default_code = "too_large"


class RepositoryUnusable(APIException):
    status_code = 503
    default_code = "unusable"


class ArchiveParser(BaseParser):
    """The body as it is, whatever its type: the original's client does not name one. Raises ArchiveTooLarge."""

    media_type = "*/*"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read(MAX_ARCHIVE_BYTES + 1)
        if len(body) > MAX_ARCHIVE_BYTES:
            raise ArchiveTooLarge
        return body


class AppPermissions(ModelPermissions):
    """To upload an app is to execute code on workers: it takes a permission of its own."""

    perms_map = {**ModelPermissions.perms_map, "POST": ["%(app_label)s.upload_%(model_name)s"]}


class AppSerializer(VersionModelSerializer):
    name = serializers.CharField(source="app.name")
    manifest = FreeField()

    class Meta:
        model = ClientAppVersion
        fields = ["name", "manifest"]


class AppVersionSerializer(VersionModelSerializer):
    version = serializers.IntegerField(source="number")
    manifest = FreeField()
    created = TimestampField()

    class Meta:
        model = ClientAppVersion
        fields = read_only_fields = [
            "version",
            "digest",
            "manifest",
            "archive_bytes",
            "unpacked_bytes",
            "creator",
            "created",
        ]


class AppQuerySerializer(WindowSerializer):
    creator = FilterField(help_text="who uploaded the newest version")


class AppsView(View):
    """What the resources of client apps share."""

    permission_classes = [AppPermissions]
    parser_classes = [ArchiveParser]
    queryset = ClientApp.objects.none()


class AppListView(AppsView):
    @lists(AppQuerySerializer, AppSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Lists the client apps in their newest versions, by name."""
        wanted = asked(request, AppQuerySerializer)
        exactly = {name: wanted[name] for name in ("creator",) if name in wanted}
        found = selectors.newest_versions(**exactly)
        return array(request, found, lambda some: AppSerializer(some, many=True).data, wanted)

    @extend_schema(
        request={ZIP: OpenApiTypes.BINARY}, responses={201: AppSerializer}, parameters=[location_of("the app")]
    )
    def post(self, request: Request) -> Response:
        """Adds a client app. The body is its zip archive, which becomes the newest version of the app that its manifest
        names. It takes the permission `upload_clientapp`, as it is to execute code on workers."""
        assert not isinstance(request.user, AnonymousUser)  # its permissions were checked
        data = request.data if isinstance(request.data, bytes) else b""  # DRF parses no empty body
        try:
            version = services.upload(data, creator=request.user.get_username())
        except OSError as error:
            raise RepositoryUnusable(f"galileo_apps_repo_dir cannot be written: {error.strerror}") from error
        location = {"Location": f"/api/apps/{version.app.name}"}
        return Response(AppSerializer(version).data, status.HTTP_201_CREATED, headers=location)


class AppView(AppsView):
    @extend_schema(responses=AppSerializer)
    def get(self, request: Request, name: str) -> Response:
        """Shows a client app in its newest version."""
        return Response(AppSerializer(_newest(name)).data)

    @extend_schema(responses={200: OpenApiResponse(bool, "Whether there was such an app.")})
    def delete(self, request: Request, name: str) -> Response:
        """Removes a client app with all its versions. If there is none, that is 200 and false, as in the original."""
        return Response(services.delete(name))


class AppVersionsView(AppsView):
    @lists(WindowSerializer, AppVersionSerializer(many=True))
    def get(self, request: Request, name: str) -> Response:
        """Lists the versions of a client app, newest first."""
        _newest(name)
        found = selectors.client_app_versions(name)
        wanted = asked(request, WindowSerializer)
        return array(request, found, lambda some: AppVersionSerializer(some, many=True).data, wanted)


class AppDownloadView(AppsView):
    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """Whatever the client says that it accepts."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(responses={(200, ZIP): OpenApiTypes.BINARY})
    def get(self, request: Request, name: str) -> FileResponse:
        """Downloads the newest archive of a client app."""
        version = _newest(name)
        try:
            archive = services.archive_file(version.digest).open("rb")
        except OSError as error:
            raise NotFound(f"The archive of client app {name} cannot be read: {error.strerror}.") from error
        return FileResponse(archive, as_attachment=True, filename=f"{name}.zip", content_type=ZIP)


def _newest(name: str) -> ClientAppVersion:
    version = selectors.newest_version(name)
    if version is None:
        raise NotFound(f"There is no client app {name}.")
    return version
