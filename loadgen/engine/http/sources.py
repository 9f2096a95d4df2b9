"""RequestSource: the static request of a workload, or the requests of a client app."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from loadgen.engine.client_app import AppInstance, ClientApp, find_app
from loadgen.engine.errors import AppError
from loadgen.engine.http import tls
from loadgen.engine.http.pool import HostPool, Pool
from loadgen.engine.http.request import Preparer, check_tls
from loadgen.engine.http.response.app_response import AppResponse
from loadgen.engine.http.wire_request import WireRequest
from loadgen.engine.stalls import SLOW_CALL_NS, AppTime
from loadgen.engine.watchdog import Watchdog
from loadgen.protocol.enums import CookieMode, Scheme
from loadgen.protocol.messages import GroupDocument, WorkloadSpec

BaseUrl = Callable[[str], str]

_SLOW_MODULE_NS, _AFTER_SLOW_S = 200_000_000, 0.05


class RequestSource(Protocol):
    """The requests of a shard's clients.

    Attributes:
        is_static: whether a host's request is the same for all clients and never changes.
        wants_responses: whether `on_response` is to be called; known after `prepare`.
        cookie_mode: that of the client app's manifest, if it has one; known after `prepare`.
    """

    is_static: bool
    wants_responses: bool
    cookie_mode: CookieMode | None
    app_time: AppTime

    async def prepare(self) -> None:
        """Does slow work before the start. Raises AppError."""

    def next_request(self, client: int, host: str) -> WireRequest:
        """Returns the client's next request, for this host. Raises AppError."""

    def skip_request(self, client: int) -> None:
        """Makes the client's next request, and discards it. Raises AppError."""

    def on_response(self, client: int, status: int, data: bytes, history: tuple[bytes, ...]) -> None:
        """Receives the bytes of a complete response, and the heads of those that redirected to it. Raises AppError."""

    def close(self) -> None: ...


# Makes the source of a shard from the group's document, the shard's clients, and the base URL of a host.
SourceFactory = Callable[[GroupDocument, Sequence[int], BaseUrl], RequestSource]


class RequestTargets:
    """Returns each request of a source together with the pool of its host.

    `fixed` has, by host, the requests that are the same for all clients and never change.
    """

    __slots__ = ("_pool", "_source", "fixed")

    def __init__(self, source: RequestSource, pool: Pool) -> None:
        self._source = source
        self._pool = pool
        self.fixed = pool.fixed

    def next(self, client: int, host: str) -> tuple[HostPool, WireRequest]:
        """Returns the client's next request, for this host. Raises AppError."""
        wire = self._source.next_request(client, host)
        target = self._pool.host(host, wire.tls), wire
        if self._source.is_static:
            self.fixed[host] = target
        return target


class StaticSource:
    """The workload's one request."""

    is_static = True
    wants_responses = False
    cookie_mode: CookieMode | None = None

    def __init__(self, workload: WorkloadSpec, preparer: Preparer, base_url: BaseUrl) -> None:
        self._workload = workload
        self._preparer = preparer
        self._base_url = base_url
        self.app_time = AppTime()  # stays 0

    async def prepare(self) -> None:
        self.next_request(0, "host")

    def next_request(self, client: int, host: str) -> WireRequest:
        workload = self._workload
        try:
            return self._preparer.prepare(self._base_url(host), workload.method, workload.path, workload.kwargs)
        except AppError as error:
            raise AppError(f"the workload's request to {workload.service}: {error}") from error

    def skip_request(self, client: int) -> None:
        return

    def on_response(self, client: int, status: int, data: bytes, history: tuple[bytes, ...]) -> None:
        return

    def close(self) -> None:
        return


class AppSource:
    """A client app: its module is executed once per client, or once for all clients if its manifest has `shared`.

    Args:
        apps_dir: the folder of this worker's own apps; None: it has none.
        fetched: the app's folder from the repository; None: it was not fetched.
        now_ns: the clock of `app_time`, which counts the app's calls and the preparation of its requests.
    """

    is_static = False

    def __init__(
        self,
        workload: WorkloadSpec,
        apps_dir: Path | None,
        fetched: Path | None,
        clients: Sequence[int],
        preparer: Preparer,
        base_url: BaseUrl,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.wants_responses = False
        self.cookie_mode: CookieMode | None = None
        self._now_ns = now_ns
        self.app_time = AppTime()
        self._workload = workload
        self._apps_dir = apps_dir
        self._fetched = fetched
        self._clients = clients
        self._preparer = preparer
        self._base_url = base_url
        self._watchdog = Watchdog(now_ns)
        self._instances: dict[int, AppInstance] = {}

    async def prepare(self) -> None:
        assert self._workload.client_app is not None
        if self._base_url("host").startswith(f"{Scheme.HTTPS}:"):  # also by the scheme of a static host
            check_tls(tls.options())  # reads a large file
        name = self._workload.client_app
        app = ClientApp(name, find_app(name, self._apps_dir, self._fetched), self._watchdog)
        self.cookie_mode = app.manifest.cookies
        parameters = app.parameters(self._workload.client_parameters)
        self._watchdog.start()
        try:
            if app.manifest.shared:
                self._instances = dict.fromkeys(self._clients, app.instance(None, parameters, self._now_ns()))
                return
            for client in self._clients:
                began_ns = self._now_ns()
                self._instances[client] = app.instance(client, parameters, began_ns)
                # A thousand modules take seconds. Meanwhile the shard's lease must be renewed, which takes several
                # turns of the event loop, and must be complete before the next slow module.
                await asyncio.sleep(_AFTER_SLOW_S if self._now_ns() - began_ns > _SLOW_MODULE_NS else 0)
        except BaseException:
            self.close()
            raise
        finally:
            self.wants_responses = any(instance.wants_responses for instance in self._instances.values())

    def next_request(self, client: int, host: str) -> WireRequest:
        began_ns = self._now_ns()
        wire = self._instances[client].next_request(began_ns, self._preparer.prepare, self._base_url(host))
        self._count(began_ns)
        return wire

    def skip_request(self, client: int) -> None:
        began_ns = self._now_ns()
        self._instances[client].next_request(began_ns, lambda *parts: parts, "")
        self._count(began_ns)

    def on_response(self, client: int, status: int, data: bytes, history: tuple[bytes, ...]) -> None:
        instance = self._instances[client]
        if not instance.wants_responses:
            return
        began_ns = self._now_ns()
        instance.on_response(AppResponse(status, data, history), began_ns)
        self._count(began_ns)

    def _count(self, began_ns: int) -> None:
        """Counts a call of the app."""
        took_ns = self._now_ns() - began_ns
        self.app_time.total_ns += took_ns
        if took_ns > SLOW_CALL_NS:
            self.app_time.add_slow(took_ns)

    def close(self) -> None:
        self._watchdog.stop()
        for instance in self._instances.values():
            instance.close()
        self._instances.clear()


def file_sources(apps_dir: Path | None, fetched: Path | None = None) -> SourceFactory:
    """Returns the factory of sources whose client apps are in a folder of this worker.

    Args:
        apps_dir: the folder of the worker's own apps, which take precedence.
        fetched: the folder of the one app that was fetched from the repository.
    """

    def build(document: GroupDocument, clients: Sequence[int], base_url: BaseUrl) -> RequestSource:
        workload = document.workload
        preparer = Preparer(
            workload.request_id_header, document.group_id, workload.request_timeout_s, workload.ids_version
        )
        if workload.client_app is None:
            return StaticSource(workload, preparer, base_url)
        return AppSource(workload, apps_dir, fetched, clients, preparer, base_url)

    return build
