"""The shell's `g`: workers and client groups."""

from __future__ import annotations

import getpass
from typing import Any

import requests

from experiments import selectors
from experiments.models import ClientGroup as Group
from experiments.plans import parse_group
from experiments.services import groups, interactive, pinging, registry
from experiments.shell import one_request
from experiments.shell.arguments import check_timeout
from experiments.shell.client_group import ClientGroup
from experiments.shell.errors import NoExperiment, ShellError


class Galileo:
    """The system: its workers, and the clients that you spawn on them.

    g.workers()                names of the live workers; g.workers_info() tells all about them
    g.ping()                   round trip to each worker, in seconds
    g.spawn('myservice', 3)    three clients of a service
    g.clients()                the client groups that are not closed; g.clients('g-…') those of these ids
    g.request('myservice')     one request, now, from here
    g.stop_tracing()           the running experiment keeps statistics alone, until g.start_tracing()
    """

    def workers(self) -> list[str]:
        """The names of the live workers."""
        registry.sync_workers()
        return [load.worker.name for load in selectors.live_workers()]

    def workers_info(self) -> list[dict[str, Any]]:
        """What is known of each live worker: labels, slots, cores, memory, machine, versions, clock."""
        registry.sync_workers()
        return [selectors.worker_facts(load) for load in selectors.live_workers()]

    def discover(self) -> list[str]:
        """As `workers`, under the original's name: each call looks anew."""
        return self.workers()

    def ping(self, timeout: float = 1.0) -> dict[str, float]:
        """Seconds until each worker has answered, by its name; who does not answer within `timeout` is not in it."""
        check_timeout(timeout)
        return {name: trip_s for name, trip_s in pinging.ping(timeout).items() if trip_s is not None}

    def spawn(
        self,
        service: str,
        num: int = 1,
        client: str | None = None,
        parameters: dict[str, Any] | None = None,
        worker_labels: dict[str, str] | None = None,
        **workload: Any,
    ) -> ClientGroup:
        """Makes clients of a service and waits until they are ready; they send nothing until they are told to.

        Args:
            service: its hosts are in the routing table (`rtbl`).
            num: how many clients, over all workers.
            client: the client app that makes their requests. Without it, an app of the service's name is taken if there
                is one, else each request is a GET of /, or what `parameters` say.
            parameters: the app's own; of the default client `method`, `path` and `kwargs` (those of requests.request).
            worker_labels: only workers that carry all of these, such as {'zone': 'A'}.
            workload: further keys of a workload in a plan (docs/plans.md), such as connection='new'.

        Raises:
            PlanInvalid: an argument is wrong; it names which.
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
        """The client groups of these ids, or all that are not closed, as one.

        Raises:
            ShellError: there is no such group.
        """
        known = [group.id for group in selectors.open_groups()]
        if unknown := [
            group_id for group_id in ids if not Group.objects.filter(id=group_id, interactive=True).exists()
        ]:
            raise ShellError(f"there is no client group {unknown[0]}; open are {', '.join(known) or 'none'}")
        return ClientGroup(ids or known)

    def request(
        self,
        service: str,
        client: str | None = None,
        parameters: dict[str, Any] | None = None,
        router_type: str | None = None,
        **workload: Any,
    ) -> requests.Response:
        """Makes one request of a service, now and from here, as a client would, and returns the response.

        Args:
            service: its hosts are in the routing table (`rtbl`); one of them is drawn by their weights.
            client: the client app that says what the request is. Without it, an app of the service's name is taken if
                there is one, else it is a GET of /, or what `parameters` say.
            parameters: the app's own; of the default client `method`, `path` and `kwargs`: those of requests.request,
                with bytes, open files, auth objects and all.
            router_type: where it goes (docs/routing.md), such as SymmetryServiceRouter; default: SymmetryHostRouter.
            workload: further keys of a workload in a plan (docs/plans.md), such as scheme='https'.

        Raises:
            PlanInvalid: an argument is wrong; it names which.
            AppFailed: the app is broken; with the last lines of its traceback.
            ShellError, requests.RequestException

        >>> g.request('myservice', parameters={'method': 'post', 'path': '/', 'kwargs': {'data': b'some'}}).status_code
        """
        data = _workload(service, client, parameters, router=router_type, **workload)
        kwargs: dict[str, Any] = {}
        if "client" not in data:  # else they are the app's own, like any parameter
            place = data.get("client_parameters", data)
            if isinstance(place, dict) and place.get("kwargs") is not None:
                field = "kwargs" if place is data else "client_parameters.kwargs"
                kwargs = one_request.check_kwargs(place.pop("kwargs"), field)
        return one_request.send(parse_group(data), kwargs)

    def start_tracing(self) -> None:
        """Has the interactive experiment that runs store traces again. Raises NoExperiment."""
        self._trace(True)

    def stop_tracing(self) -> None:
        """Has the interactive experiment that runs store no traces, of any client group, until `start_tracing`.

        Its statistics go on, and its account says how many requests were not traced. Raises NoExperiment.
        """
        self._trace(False)

    def _trace(self, tracing: bool) -> None:
        experiment = selectors.interactive_experiment()
        if experiment is None:
            raise NoExperiment(
                "no interactive experiment is running, whose traces could be stored; exp.start() begins one"
            )
        try:
            interactive.trace(experiment.id, tracing)
        except interactive.NotRunning as error:  # it was stopped just now
            raise NoExperiment(str(error)) from error

    def __repr__(self) -> str:
        return f"Galileo({len(self.workers())} workers, {len(selectors.open_groups())} client groups)"


def _workload(service: str, client: str | None, parameters: dict[str, Any] | None, **others: Any) -> dict[str, Any]:
    """A group's data; the client app is the given one, or that of the service's name, if there is one."""
    if client is None and isinstance(service, str):
        client = selectors.client_app_of(service)
    if isinstance(parameters, dict):
        parameters = dict(parameters)
    data = {"service": service, "client": client, "client_parameters": parameters, **others}
    return {key: value for key, value in data.items() if value is not None}
