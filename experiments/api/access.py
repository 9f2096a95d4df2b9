"""Access to the API: permissions, and open access."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.request import Request

# The user of requests without credentials, with galileo_api_auth=none.
OPEN_USER = "api"
# Values of Sec-Fetch-Site for requests of our own pages and of the user. `same-site` may be another port of this host.
OWN_SITES = ("same-origin", "none")


class ModelPermissions(DjangoModelPermissions):
    """The permissions of the models, as in the admin: unlike in DRF's own class, reading needs `view_…`."""

    perms_map = {
        **DjangoModelPermissions.perms_map,
        "GET": ["%(app_label)s.view_%(model_name)s"],
        "HEAD": ["%(app_label)s.view_%(model_name)s"],
    }


class OpenAccess(BaseAuthentication):
    """`galileo_api_auth=none`: everyone in a closed lab network may use the API, as in the original.

    Clients in the network may do everything under /api, uploading client apps included. Web pages of other origins may
    not: browsers in the network also show pages from outside it. This is the last way of authentication.
    """

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        """Raises AuthenticationFailed, PermissionDenied."""
        if not settings.GALILEO_API_IS_OPEN:
            return None
        if "Authorization" in request.headers:
            raise AuthenticationFailed("The Authorization header must be of type Token or Basic.")
        if not _is_own_origin(request):
            raise PermissionDenied("Requests from web pages of other origins need a token.")
        # Without a row in the database: it can neither log in nor be given permissions.
        return User(username=OPEN_USER, is_superuser=True), None


def _is_own_origin(request: Request) -> bool:
    origin = request.headers.get("Origin")
    own = (f"{request.scheme}://{request.get_host()}", *settings.CSRF_TRUSTED_ORIGINS)
    return (origin is None or origin in own) and request.headers.get("Sec-Fetch-Site", "none") in OWN_SITES
