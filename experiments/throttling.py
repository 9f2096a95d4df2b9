"""Limits per user and address: requests to the API, and attempts to log in with a password.

All web processes count together in Redis. Addresses are counted in 65,536 buckets, so that any number of addresses
takes a bounded amount of memory.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import secrets
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, TypeVar

import redis
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from experiments.password_attempts import Answer, Attempts, BrokerAttempts, ProcessAttempts
from routing.redis import redis_client

KEY_PREFIX = "galileo:api:rate:"
PASSWORD_PREFIX = "galileo:login:rate:"
_BUCKET_BYTES = 2  # 65,536 buckets
# After an error of the broker, it is not asked for this long, so that requests do not each wait for its time-out.
RETRY_S = 10.0
# An attempt to log in waits at most this long for others in flight from its address.
MAX_WAIT_S = 5.0
_LOOK_EVERY_S = 0.02
# The addresses of one IPv6 network belong to one device.
_IPV6_PREFIX = 64
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]+)?|([0-9.]+):[0-9]+")

T = TypeVar("T")

log = logging.getLogger(__name__)


class BrokerCounter:
    """Counts in Redis. A period begins with its first count, so that up to twice a rate is possible around the end
    of a period."""

    def __init__(self) -> None:
        self.retry_at_s = 0.0  # of the monotonic clock

    def ask(self, question: Callable[[redis.Redis], T]) -> T | None:
        """Returns what `question` returns for the client of the broker; None while the broker does not answer."""
        if time.monotonic() < self.retry_at_s:
            return None
        try:
            return question(redis_client())
        except redis.RedisError as error:
            self.retry_at_s = time.monotonic() + RETRY_S
            log.warning("the broker does not answer: requests to the API are not limited now (%s)", error)
            return None

    def add(self, key: str, period_s: int) -> tuple[int, float] | None:
        """Returns the new count and the seconds until its period ends; None while the broker does not answer."""
        return self.ask(lambda broker: _counted(broker, key, period_s))


def _counted(broker: redis.Redis, key: str, period_s: int) -> tuple[int, float]:
    with broker.pipeline() as pipeline:
        pipeline.set(key, 0, px=period_s * 1000, nx=True)
        pipeline.incr(key)
        pipeline.pttl(key)
        _, count, left_ms = pipeline.execute()
    if left_ms > period_s * 1000:  # the broker's clock was set back
        broker.pexpire(key, period_s * 1000)
        left_ms = period_s * 1000
    return count, left_ms / 1000


broker_counter = BrokerCounter()
broker_attempts = BrokerAttempts(broker_counter.ask)
process_attempts = ProcessAttempts()


def check_request(request: Request) -> None:
    """Counts a request to the API. Raises Throttled when its user, or its address without one, has reached the limit.

    While the broker does not answer, requests are not limited.
    """
    rate = settings.GALILEO_API_RATE
    if rate is None:
        return
    user = request.user.pk
    name = f"user:{user}" if user is not None else f"address:{address_bucket(client_address(request))}"
    counted = broker_counter.add(KEY_PREFIX + name, rate.period_s)
    if counted is not None and counted[0] > rate.requests:
        raise Throttled(wait=math.ceil(counted[1]))


class PasswordBackend(ModelBackend):
    """Django's check of passwords, limited by address: for the login page and the API's basic authentication.

    Wrong passwords count, before they are hashed (password_attempts.py). An attempt waits while those in flight might
    use up the limit, so that any number of right passwords can come at a time. While the broker does not answer, each
    process counts by itself.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **fields: Any
    ) -> Any:
        """Raises Throttled when the address has reached the limit. Calls without a request are not counted."""
        rate = settings.GALILEO_LOGIN_RATE
        if request is None or rate is None:
            return super().authenticate(request, username, password, **fields)
        key = PASSWORD_PREFIX + address_bucket(client_address(request))
        attempt = secrets.token_hex(8)
        attempts = _begin_attempt(key, attempt, rate.requests, rate.period_s)
        user = None
        try:
            user = super().authenticate(request, username, password, **fields)
        finally:
            wrong = user is None
            # If the broker has failed meanwhile, it forgets the attempt, but a wrong one must count.
            if not attempts.end(key, attempt, wrong, rate.period_s):
                process_attempts.end(key, attempt, wrong, rate.period_s)
        return user


def _begin_attempt(key: str, attempt: str, limit: int, period_s: int) -> Attempts:
    """Returns where the attempt was admitted, after waiting for others if necessary. Raises Throttled."""
    give_up_at_s = time.monotonic() + MAX_WAIT_S
    while True:
        attempts: Attempts = broker_attempts
        found = attempts.begin(key, attempt, limit, period_s)
        if found is None:
            attempts = process_attempts
            found = process_attempts.begin(key, attempt, limit, period_s)
        answer, left_s = found
        if answer is Answer.ADMITTED:
            return attempts
        if answer is Answer.REFUSED:
            raise Throttled(wait=math.ceil(left_s), detail="Too many attempts to log in.")
        if time.monotonic() > give_up_at_s:
            raise Throttled(wait=1, detail="Too many attempts to log in at the same time.")
        time.sleep(_LOOK_EVERY_S)


class LoginLimitMiddleware:
    """Shows a page with the status 429 for an attempt to log in that PasswordBackend has refused."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Leaves all other errors to Django; those of the API never arrive here."""
        if not isinstance(error, Throttled):
            return None
        wait_s = getattr(error, "wait", None)
        context = {**admin.site.each_context(request), "title": "Too many attempts to log in", "wait_s": wait_s}
        response = render(request, "admin/login_limit.html", context, status=429)
        response["Retry-After"] = str(wait_s)
        return response


def client_address(request: HttpRequest | Request) -> str:
    """Returns the address of the client: the last one in X-Forwarded-For that is not one of galileo_trusted_proxies.

    The header counts only where such a proxy has sent it: any client can write one. Where it has something else than
    an address, the client counts as the proxy that has sent it.
    """
    address = str(request.META.get("REMOTE_ADDR", ""))
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while forwarded and _is_trusted_proxy(address):
        found = _without_port(forwarded.pop().strip())
        if _parsed(found) is None:
            break
        address = found
    return address


def _without_port(text: str) -> str:
    """An address of X-Forwarded-For without the port that some proxies add: each connection has another one."""
    found = _WITH_PORT.fullmatch(text)
    return text if found is None else found[1] or found[2]


def address_bucket(address: str) -> str:
    """Returns the bucket in which an address is counted, as four hexadecimal digits.

    The secret key is part of it, so that a client cannot find an address that shares the bucket of another client.
    """
    key = hashlib.sha256(settings.SECRET_KEY.encode()).digest()
    return hashlib.blake2b(_counted_part(address).encode(), key=key, digest_size=_BUCKET_BYTES).hexdigest()


def _is_trusted_proxy(address: str) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in settings.GALILEO_TRUSTED_PROXIES)


def _counted_part(address: str) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed or address)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Returns an address, an IPv4 address also where it was written as an IPv6 address; None for anything else."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed
