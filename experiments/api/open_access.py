"""`galileo_api_auth=none`: the API for everybody in a closed lab network, as the original's was, but for no web page.

Whoever is in the network may do everything under /api, the upload of client apps included. A browser is in the network,
too, and the pages that it shows are not: what another page than our own has it send is refused.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

NAME = "api"
# What a browser says of a request that our own page, or nobody's, has made. `same-site` is another port of this host.
OWN_SITES = ("same-origin", "none")


class OpenAccess(BaseAuthentication):
    """The last way of authentication: takes whoever has not said who they are for one user that may do everything."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        """Raises AuthenticationFailed, PermissionDenied."""
        if not settings.GALILEO_API_IS_OPEN:
            return None
        if "Authorization" in request.headers:
            raise AuthenticationFailed("The Authorization header is of none of the kinds Token and Basic.")
        if not _is_ours(request):
            raise PermissionDenied("A web page of another origin asks; without a token only programs and our own may.")
        # It has no row, so that nobody can log in as it, and nothing can be given to it.
        return User(username=NAME, is_superuser=True), None


def _is_ours(request: Request) -> bool:
    origin = request.headers.get("Origin")
    own = (f"{request.scheme}://{request.get_host()}", *settings.CSRF_TRUSTED_ORIGINS)
    return (origin is None or origin in own) and request.headers.get("Sec-Fetch-Site", "none") in OWN_SITES
