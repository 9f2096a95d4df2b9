"""Preparation of a load: fetches its client app, and builds its routes and its engine."""

from __future__ import annotations

from pathlib import Path

import redis.asyncio

from loadgen.apps.cache import AppCache, AppUnavailableError
from loadgen.device.process import descriptors_left
from loadgen.engine import AppError, Engine, Routes, build_routes, file_sources, is_local
from loadgen.protocol.messages import GroupDocument, ShardOrder, WorkloadSpec
from loadgen.protocol.settings import WorkerSettings

DESCRIPTORS_KEPT = 32  # for the spool, the broker, name look-ups and the client app: connections may not take these


def needs_app(workload: WorkloadSpec, settings: WorkerSettings) -> bool:
    """Returns whether the client app has to be fetched: it has an archive, and is not among this worker's own."""
    return workload.client_app_digest is not None and not is_local(workload.client_app, settings.apps_dir)


async def fetch_app(workload: WorkloadSpec, apps: AppCache, client: redis.asyncio.Redis) -> Path:
    """Returns the folder of a client app from the repository.

    Raises:
        AppError: it cannot be had.
    """
    assert workload.client_app_digest is not None
    try:
        return await apps.folder(client, workload.client_app_digest)
    except AppUnavailableError as error:
        raise AppError(
            f"client app {workload.client_app!r}: it is not among this worker's own (galileo_apps_dir), and cannot be "
            f"had from the repository: {error}"
        ) from error


def build_engine(
    order: ShardOrder, document: GroupDocument, settings: WorkerSettings, fetched: Path | None
) -> tuple[Engine, Routes]:
    """Returns the engine of a shard, and the routes that it follows.

    Args:
        fetched: the folder of the client app, if it was fetched.
    """
    workload = document.workload
    routes = build_routes(workload, document.seed, order.shard_index, settings.router, settings.static_host)
    sources = file_sources(settings.apps_dir, fetched)
    engine = Engine(order, document, sources, routes, max_connections=max(1, descriptors_left() - DESCRIPTORS_KEPT))
    return engine, routes
