"""How much each user may ask for in a time: counted in Redis, for all web processes together."""

from __future__ import annotations

import logging
import math
import time

import redis
from django.conf import settings
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from routing.redis import redis_client

KEY_PREFIX = "galileo:api:rate:"
# While the broker is away, it is asked again no more often than this: a request must not wait for it each time.
RETRY_S = 10.0

_log = logging.getLogger(__name__)


class Counting:
    """When this process may ask the broker again."""

    def __init__(self) -> None:
        self.next_s = 0.0


counting = Counting()


def admit(request: Request) -> None:
    """Counts a request; without a broker to count with, each is let through, and the log says so.

    The time begins with the first request, so that twice the rate is possible where two of them meet.

    Raises:
        Throttled: the user, or the address of who is none, has had all that the time allows.
    """
    rate = settings.GALILEO_API_RATE
    if rate is None or time.monotonic() < counting.next_s:
        return
    key = KEY_PREFIX + _asker(request)
    try:
        with redis_client().pipeline() as pipeline:
            pipeline.set(key, 0, px=round(rate.period_s * 1000), nx=True)
            pipeline.incr(key)
            pipeline.pttl(key)
            _, count, left_ms = pipeline.execute()
    except redis.RedisError as error:
        counting.next_s = time.monotonic() + RETRY_S
        _log.warning("the broker does not answer: requests to the API are not limited now (%s)", error)
        return
    if count > rate.requests:
        raise Throttled(wait=math.ceil(left_ms / 1000))


def _asker(request: Request) -> str:
    user = request.user.pk
    return f"user:{user}" if user is not None else f"address:{request.META.get('REMOTE_ADDR', '')}"
