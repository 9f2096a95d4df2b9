"""Readiness probes: each returns at once whether a process is ready; a refused connection means that it is not."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from functools import cache
from typing import Any

import redis

from galileo_site.stack.config import HOST
from loadgen.protocol.keys import worker_key

Probe = Callable[[], bool]


@cache
def redis_client(port: int, password: str) -> redis.Redis:
    return redis.Redis(host=HOST, port=port, password=password, socket_timeout=1, socket_connect_timeout=1)


def redis_answers(port: int, password: str) -> Probe:
    def probe() -> bool:
        try:
            return bool(redis_client(port, password).ping())
        except redis.RedisError:
            return False  # refused, or still loading its data

    return probe


def http_answers(port: int, path: str) -> Probe:
    """Returns a probe that is true when the server answers with a status below 500, such as a redirect to a login."""

    def probe() -> bool:
        connection = http.client.HTTPConnection(HOST, port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return probe


def worker_registered(client: redis.Redis, name: str) -> Probe:
    """Returns a probe that is true when the worker has registered since this call."""
    left = _registration(client, name)

    def probe() -> bool:
        return _registration(client, name) not in (None, left)

    return probe


def _registration(client: redis.Redis, name: str) -> object:
    try:
        return client.get(worker_key(name))
    except redis.RedisError:
        return None


def celery_answers(broker_url: str, node: str) -> Probe:
    """Returns a probe that is true when the Celery node `<node>@<this host>` answers a ping."""

    def probe() -> bool:
        from kombu.exceptions import OperationalError

        try:
            return bool(
                _celery_app(broker_url).control.ping(destination=[f"{node}@{socket.gethostname()}"], timeout=0.5)
            )
        except (OperationalError, redis.RedisError):
            return False

    return probe


@cache
def _celery_app(broker_url: str) -> Any:
    from celery import Celery  # here, because only starting a stack needs it, and importing it takes a while

    return Celery("galileo-stack", broker=broker_url, set_as_current=False)
