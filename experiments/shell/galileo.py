"""Galileo: the shell's `g`, for workers and client groups."""

from __future__ import annotations

import getpass
from typing import Any

import requests

from experiments import selectors
from experiments.models import ClientGroup as Group
from experiments.plans import parse_group
from experiments.services import groups, interactive, workers
from experiments.shell import one_request
from experiments.shell.client_group import ClientGroup
from experiments.shell.errors import NoExperiment, ShellError, check_timeout


class Galileo:
    """The system: its workers, and the clients that are spawned on them.

    g.workers()                names of the live workers; g.workers_info() returns their details
    g.ping()                   round trip to each worker, in seconds
    g.spawn('myservice', 3)    three clients of a service
    g.clients()                the open client groups; g.clients('g-…') those with these ids
    g.request('myservice')     one request from this computer
    g.stop_tracing()           the running experiment stores statistics alone, until g.start_tracing()
    """

    def workers(self) -> list[str]:
        """Returns the names of the live workers."""
        workers.sync_workers()
        return [load.worker.name for load in selectors.live_workers()]

    def workers_info(self) -> list[dict[str, Any]]:
        """Returns labels, slots, cores, memory, machine, versions and clock of each live worker."""
        workers.sync_workers()
        return [selectors.worker_facts(load) for load in selectors.live_workers()]

    def discover(self) -> list[str]:
        """As `workers`; the original's name."""
        return self.workers()

    def ping(self, timeout: float = 1.0) -> dict[str, float]:
        """Returns round-trip times in seconds by worker, without workers that do not respond within `timeout`."""
        check_timeout(timeout)
        return {name: trip_s for name, trip_s in workers.ping(timeout).items() if trip_s is not None}

    def spawn(
        self,
        service: str,
        num: int = 1,
        client: str | None = None,
        parameters: dict[str, Any] | None = None,
        worker_labels: dict[str, str] | None = None,
        **workload: Any,
    ) -> ClientGroup:
        """Spawns clients of a service, and waits until they are ready. They send nothing before the first command.

        Args:
            service: a service of the routing table (`rtbl`).
            num: number of clients on all workers together.
            client: the client app that makes the requests. Default: an app with the service's name, if there is one;
                else each request is a GET of /, or as `parameters` describe.
            parameters: those of the app; without an app `method`, `path` and `kwargs` (those of requests.request).
            worker_labels: only workers with all of these labels, such as {'zone': 'A'}.
            workload: further keys of a workload in a plan (docs/plans.md), such as connection='new'.

        Raises:
            InvalidInput: an argument is invalid.
            NoMatchingWorkers, NoFreeSlot, GroupFailed, NotReady

        >>> c = g.spawn('myservice', 3)
        >>> c.rps(10)
        """
        data = _workload(service, client, parameters, num=num, worker_labels=worker_labels, **workload)
        plan = parse_group(data)
        group = ClientGroup([groups.spawn(plan, getpass.getuser()).id])
        try:
            group.wait_until_ready()
        except BaseException:
            group.close()
            raise
        return group

    def clients(self, *ids: str) -> ClientGroup:
        """Returns the client groups with these ids, or all open groups, as one.

        Raises:
            ShellError: a group does not exist.
        """
        known = [group.id for group in selectors.open_groups()]
        if unknown := [group_id for group_id in ids if not Group.objects.interactive().filter(id=group_id).exists()]:
            raise ShellError(f"client group {unknown[0]} does not exist; open groups: {', '.join(known) or 'none'}")
        return ClientGroup(ids or known)

    def request(
        self,
        service: str,
        client: str | None = None,
        parameters: dict[str, Any] | None = None,
        router_type: str | None = None,
        **workload: Any,
    ) -> requests.Response:
        """Makes one request from this computer, as a client would, and returns the response.

        Args:
            service: a service of the routing table (`rtbl`); one of its hosts is drawn by weight.
            client: the client app that makes the request. Default: an app with the service's name, if there is one;
                else the request is a GET of /, or as `parameters` describe.
            parameters: those of the app; without an app `method`, `path` and `kwargs`: those of requests.request,
                including bytes, open files and auth objects.
            router_type: the router (docs/routing.md), such as SymmetryServiceRouter; default: SymmetryHostRouter.
            workload: further keys of a workload in a plan (docs/plans.md), such as scheme='https'.

        Raises:
            InvalidInput: an argument is invalid.
            AppFailed: the app failed, with the last lines of its traceback.
            ShellError, requests.RequestException

        >>> g.request('myservice', parameters={'method': 'post', 'path': '/', 'kwargs': {'data': b'some'}}).status_code
        """
        data = _workload(service, client, parameters, router=router_type, **workload)
        kwargs: dict[str, Any] = {}
        if "client" not in data:  # with a client app, kwargs is one of the app's parameters
            place = data.get("client_parameters", data)
            if isinstance(place, dict) and place.get("kwargs") is not None:
                field = "kwargs" if place is data else "client_parameters.kwargs"
                kwargs = one_request.check_kwargs(place.pop("kwargs"), field)
        return one_request.send(parse_group(data), kwargs)

    def start_tracing(self) -> None:
        """Resumes storing traces of the running interactive experiment. Raises NoExperiment, NotRunning."""
        self._trace(True)

    def stop_tracing(self) -> None:
        """Stores no traces of the running interactive experiment, of any client group, until `start_tracing`.

        Its statistics continue, and its account counts the requests that were not traced.
        Raises NoExperiment, NotRunning.
        """
        self._trace(False)

    def _trace(self, tracing: bool) -> None:
        experiment = selectors.interactive_experiment()
        if experiment is None:
            raise NoExperiment("no interactive experiment is running; call exp.start()")
        interactive.trace(experiment.id, tracing)

    def __repr__(self) -> str:
        return f"Galileo({len(self.workers())} workers, {len(selectors.open_groups())} client groups)"


def _workload(service: str, client: str | None, parameters: dict[str, Any] | None, **others: Any) -> dict[str, Any]:
    """Returns the data of a group, with the given client app or the one with the service's name, if there is one."""
    if client is None and isinstance(service, str):
        client = selectors.client_app_of(service)
    if isinstance(parameters, dict):
        parameters = dict(parameters)
    data = {"service": service, "client": client, "client_parameters": parameters, **others}
    return {key: value for key, value in data.items() if value is not None}
