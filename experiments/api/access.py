"""Access to the API: permissions, open access and the rate limit."""

from __future__ import annotations

import logging
import math
import time

import redis
from django.conf import settings
from django.contrib.auth.models import User
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied, Throttled
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.request import Request

from routing.redis import redis_client

# The user of requests without credentials, with galileo_api_auth=none.
OPEN_USER = "api"
# Values of Sec-Fetch-Site for requests of our own pages and of the user. `same-site` may be another port of this host.
OWN_SITES = ("same-origin", "none")

KEY_PREFIX = "galileo:api:rate:"
# After an error of the broker, requests are not counted for this long, so that they do not each wait for its time-out.
RETRY_S = 10.0

_log = logging.getLogger(__name__)


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


class RateLimit:
    """Counts the requests of each user in Redis, for all web processes together.

    A period begins with its first request, so that up to twice the rate is possible around the end of a period. While
    the broker does not answer, requests are not limited, and the log says so.
    """

    def __init__(self) -> None:
        self.retry_at_s = 0.0  # of the monotonic clock

    def check(self, request: Request) -> None:
        """Counts a request. Raises Throttled when its user, or its address without one, has reached the limit."""
        rate = settings.GALILEO_API_RATE
        if rate is None or time.monotonic() < self.retry_at_s:
            return
        key = KEY_PREFIX + _user_of(request)
        try:
            with redis_client().pipeline() as pipeline:
                pipeline.set(key, 0, px=round(rate.period_s * 1000), nx=True)
                pipeline.incr(key)
                pipeline.pttl(key)
                _, count, left_ms = pipeline.execute()
        except redis.RedisError as error:
            self.retry_at_s = time.monotonic() + RETRY_S
            _log.warning("the broker does not answer: requests to the API are not limited now (%s)", error)
            return
        if count > rate.requests:
            raise Throttled(wait=math.ceil(left_ms / 1000))


rate_limit = RateLimit()


def _user_of(request: Request) -> str:
    user = request.user.pk
    return f"user:{user}" if user is not None else f"address:{request.META.get('REMOTE_ADDR', '')}"
