"""Heartbeat: writes the worker's registration and state every WORKER_HEARTBEAT_S."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from dataclasses import dataclass

import psutil
import redis

from loadgen import compiled
from loadgen.device.clock import measure
from loadgen.device.cores import usable_cores
from loadgen.device.process import boot_id
from loadgen.device.registry import Registry
from loadgen.device.spool import Spool
from loadgen.protocol.messages import WorkerInfo
from loadgen.protocol.settings import WorkerSettings

READY, DRAINING = "ready", "draining"
_CLOCK_ROUNDS = 5
_PACKAGES = ("celery", "kombu", "redis", "uvloop", "msgpack", "zstandard", "requests")


@dataclass(frozen=True)
class Instance:
    """One start of a worker: its id, its main process, and the monotonic time at which that started."""

    id: str
    pid: int
    started_ns: int
    predecessor: str = ""  # the dead instance that has the worker's name


def package_versions() -> dict[str, str]:
    """Returns the versions of Python, the kernel and the installed _PACKAGES, and whether the engine is compiled."""
    versions = {"python": platform.python_version(), "kernel": platform.release(), "engine": compiled.STATE}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


class Heartbeat:
    """Keeps the worker's registration. Errors of Redis pass through."""

    def __init__(self, client: redis.Redis, settings: WorkerSettings, instance: Instance, spool: Spool) -> None:
        self._client = client
        self._settings = settings
        self._instance = instance
        self._spool = spool
        self._registry = Registry(client, settings.name, instance.id, instance.predecessor)
        self._versions = package_versions()

    def beat(self, status: str) -> None:
        """Registers the worker or renews its registration. Raises NameTakenError when another worker has the name."""
        clock = measure(self._client, _CLOCK_ROUNDS)
        batches = self._spool.scan()
        info = WorkerInfo(
            name=self._settings.name,
            instance=self._instance.id,
            labels=self._settings.labels,
            slots=self._settings.slots,
            cores=usable_cores(),
            memory_bytes=psutil.virtual_memory().total,
            machine=platform.machine(),
            hostname=platform.node(),
            boot_id=boot_id(),
            pid=self._instance.pid,
            versions=self._versions,
            status=status,
            started_broker_ns=self._instance.started_ns + clock.offset_ns,
            heartbeat_broker_ns=time.monotonic_ns() + clock.offset_ns,
            clock=clock,
            spool_batches=len(batches),
            spool_bytes=sum(batches.values()),
        )
        self._registry.hold(info)

    def leave(self) -> None:
        """Deregisters the worker."""
        self._registry.leave()
