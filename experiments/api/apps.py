"""The repository of client apps: what the original's routes answer, and the versions of an app beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.contrib.auth.models import AnonymousUser
from django.http import FileResponse
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import selectors
from experiments.api.permissions import ModelPermissions
from experiments.api.views import View
from experiments.models import ClientApp, ClientAppVersion
from experiments.services import apps as services
from loadgen.apps.archive import MAX_ARCHIVE_BYTES


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


class AppsView(View):
    """What the resources of client apps share."""

    permission_classes = [AppPermissions]
    parser_classes = [ArchiveParser]
    queryset = ClientApp.objects.none()  # names the model for the permissions


class AppListView(AppsView):
    def get(self, request: Request) -> Response:
        return Response([_shown(version) for version in selectors.newest_versions()])

    def post(self, request: Request) -> Response:
        """The body is the zip archive of an app; it becomes the newest version of the app that its manifest names."""
        assert not isinstance(request.user, AnonymousUser)  # its permissions were checked
        data = request.data if isinstance(request.data, bytes) else b""  # DRF parses no empty body
        try:
            version = services.upload(data, creator=request.user.get_username())
        except OSError as error:
            raise RepositoryUnusable(f"galileo_apps_repo_dir cannot be written: {error.strerror}") from error
        location = {"Location": f"/api/apps/{version.app.name}"}
        return Response(_shown(version), status.HTTP_201_CREATED, headers=location)


class AppView(AppsView):
    def get(self, request: Request, name: str) -> Response:
        return Response(_shown(_newest(name)))

    def delete(self, request: Request, name: str) -> Response:
        """Whether there was such an app, as in the original: an app that is not there answers 200 and false."""
        return Response(services.delete(name))


class AppVersionsView(AppsView):
    def get(self, request: Request, name: str) -> Response:
        _newest(name)
        return Response(
            [
                {
                    "version": version.number,
                    "digest": version.digest,
                    "manifest": version.manifest,
                    "archive_bytes": version.archive_bytes,
                    "unpacked_bytes": version.unpacked_bytes,
                    "creator": version.creator,
                    "created": version.created.timestamp(),
                }
                for version in selectors.client_app_versions(name)
            ]
        )


class AppDownloadView(AppsView):
    """The newest archive, whatever type the client says that it accepts."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        return super().perform_content_negotiation(request, force=True)

    def get(self, request: Request, name: str) -> FileResponse:
        version = _newest(name)
        try:
            archive = services.archive_file(version.digest).open("rb")
        except OSError as error:
            raise NotFound(f"The archive of client app {name} cannot be read: {error.strerror}.") from error
        return FileResponse(archive, as_attachment=True, filename=f"{name}.zip", content_type="application/zip")


def _newest(name: str) -> ClientAppVersion:
    version = selectors.newest_version(name)
    if version is None:
        raise NotFound(f"There is no client app {name}.")
    return version


def _shown(version: ClientAppVersion) -> dict[str, Any]:
    return {"name": version.app.name, "manifest": version.manifest}
