"""One request, now and from here, to a service's host of the routing table."""

from __future__ import annotations

import random

import requests

from experiments.plans import WorkloadPlan
from experiments.shell.errors import ShellError
from routing.connection import redis_client
from routing.redis_table import RedisRoutingTable


def send(workload: WorkloadPlan) -> requests.Response:
    """Makes a workload's request to one of its service's hosts, drawn by their weights.

    Raises:
        ShellError: the service has no host.
        requests.RequestException
    """
    record = RedisRoutingTable(redis_client()).read(workload.service)
    if record is None or not any(record.weights):
        raise ShellError(
            f"service {workload.service!r} has no host; set one: rtbl.set({workload.service!r}, ['host:80'])"
        )
    (host,) = random.choices(record.hosts, record.weights)
    base = host if workload.router == "host" else f"{host}/{workload.service}"
    kwargs = {"timeout": (workload.connect_timeout_s, workload.request_timeout_s), **workload.kwargs}
    return requests.request(workload.method, f"{workload.scheme}://{base}{workload.path}", **kwargs)
