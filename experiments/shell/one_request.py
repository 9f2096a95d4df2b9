"""One request, now and from here, to where the service's router leads."""

from __future__ import annotations

import random

import requests

from experiments.plans import WorkloadPlan
from experiments.shell.errors import ShellError
from routing import routers
from routing.connection import redis_client
from routing.redis_table import RedisRoutingTable


def send(workload: WorkloadPlan) -> requests.Response:
    """Makes a workload's request to one of its service's hosts, drawn by their weights.

    Raises:
        ShellError: the service has no host.
        requests.RequestException
    """
    router = routers.router_of(workload.router or routers.HOST)
    if router == routers.DEBUG:
        return _answered_by_nobody()
    if router == routers.STATIC:
        base_url = routers.parse_static_host(workload.static_host or routers.DEFAULT_STATIC_HOST, workload.scheme).root
    else:
        host = _host_of(workload.service)
        base_url = f"{workload.scheme}://{host}" + (f"/{workload.service}" if router == routers.SERVICE else "")
    kwargs = {"timeout": (workload.connect_timeout_s, workload.request_timeout_s), **workload.kwargs}
    return requests.request(workload.method, base_url + workload.path, **kwargs)


def _host_of(service: str) -> str:
    record = RedisRoutingTable(redis_client()).read(service)
    if record is None or not any(record.weights):
        raise ShellError(f"service {service!r} has no host; set one: rtbl.set({service!r}, ['host:80'])")
    return random.choices(record.hosts, record.weights)[0]


def _answered_by_nobody() -> requests.Response:
    response = requests.Response()
    response.status_code = 200
    response._content = b""
    return response
