"""Request sources: what a client sends next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from loadgen.engine import tls
from loadgen.engine.client_app import AppInstance, ClientApp
from loadgen.engine.errors import AppError
from loadgen.engine.request import Preparer, check_tls
from loadgen.engine.stalls import SLOW_CALL_NS, AppTime
from loadgen.engine.wire import Wire
from loadgen.messages import HTTPS, GroupDocument, WorkloadSpec

BaseUrl = Callable[[str], str]


class RequestSource(Protocol):
    """The requests of a shard's clients.

    Attributes:
        is_static: a host's request is the same for all clients and for ever.
    """

    is_static: bool
    app_time: AppTime

    async def prepare(self) -> None:
        """Does what takes long before the start. Raises AppError."""

    def wire(self, client: int, host: str) -> Wire:
        """The client's next request, for this host. Raises AppError."""

    def close(self) -> None: ...


# Makes the source of a shard from the group's document, the shard's clients, and the base URL of a host.
SourceFactory = Callable[[GroupDocument, Sequence[int], BaseUrl], RequestSource]


class StaticSource:
    """The workload's one request."""

    is_static = True

    def __init__(self, workload: WorkloadSpec, preparer: Preparer, base_url: BaseUrl) -> None:
        self._workload = workload
        self._preparer = preparer
        self._base_url = base_url
        self.app_time = AppTime()  # stays 0: it calls no app

    async def prepare(self) -> None:
        self.wire(0, "host")

    def wire(self, client: int, host: str) -> Wire:
        workload = self._workload
        try:
            return self._preparer.wire(self._base_url(host), workload.method, workload.path, workload.kwargs)
        except AppError as error:
            raise AppError(f"the workload's request to {workload.service}: {error}") from error

    def close(self) -> None:
        return


class AppSource:
    """A client app, whose module runs once per client, as each client of its own process would run it.

    Args:
        now_ns: the clock by which `app_time` counts `next_request()` and the preparing of what it returned.
    """

    is_static = False

    def __init__(
        self,
        workload: WorkloadSpec,
        apps_dir: Path | None,
        clients: Sequence[int],
        preparer: Preparer,
        base_url: BaseUrl,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._now_ns = now_ns
        self.app_time = AppTime()
        self._workload = workload
        self._apps_dir = apps_dir
        self._clients = clients
        self._preparer = preparer
        self._base_url = base_url
        self._instances: dict[int, AppInstance] = {}

    async def prepare(self) -> None:
        assert self._workload.client_app is not None
        if self._workload.scheme == HTTPS:
            check_tls(tls.options())  # reads a large file
        app = ClientApp(self._workload.client_app, self._apps_dir)
        for client in self._clients:
            self._instances[client] = app.instance(client, self._workload.client_parameters)
            await asyncio.sleep(0)  # a thousand modules take seconds; the shard's lease is renewed meanwhile

    def wire(self, client: int, host: str) -> Wire:
        began_ns = self._now_ns()
        instance = self._instances[client]
        request = instance.next_request()
        try:
            wire = self._preparer.wire(self._base_url(host), *request)
        except AppError as error:
            raise AppError(f"{instance.who}: next_request() returned a wrong request: {error}") from error
        app_time = self.app_time
        took_ns = self._now_ns() - began_ns
        app_time.total_ns += took_ns
        if took_ns > SLOW_CALL_NS:
            app_time.add_slow(took_ns)
        return wire

    def close(self) -> None:
        for instance in self._instances.values():
            instance.close()
        self._instances.clear()


def file_sources(apps_dir: Path | None) -> SourceFactory:
    """Sources whose client apps lie in a folder of this worker."""

    def build(document: GroupDocument, clients: Sequence[int], base_url: BaseUrl) -> RequestSource:
        workload = document.workload
        preparer = Preparer(workload.request_id_header, document.group_id, workload.request_timeout_s)
        if workload.client_app is None:
            return StaticSource(workload, preparer, base_url)
        return AppSource(workload, apps_dir, clients, preparer, base_url)

    return build
