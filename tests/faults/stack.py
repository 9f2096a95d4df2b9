"""The running stack that the faults strike: a whole Galileo on one database, brought back to order after each row."""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from galileo_site.environment import PROJECT_ROOT
from galileo_site.stack.processes import Child, ChildSpec
from loadgen.protocol.keys import worker_key
from tests.faults.faults import POSTGRES
from tests.support.database_servers import Postgres
from tests.support.galileo import Galileo
from tests.support.waiting import wait_for

MARK = "FAULT_RIG"  # the environment variable by which the rig knows its processes
WORKERS = {"worker-a": "A", "worker-b": "B"}
PROXIED = "worker-b"  # reaches the broker through a proxy
DAEMON = "experimentd"


class Stack:
    """A context manager: control, ingest, beat, web, the experiment daemon and two workers on one database."""

    def __init__(self, directory: Path, database: str) -> None:
        self.database = database
        self.postgres = Postgres() if database == POSTGRES else None
        self._mark = secrets.token_hex(8)
        self.galileo = Galileo(
            directory,
            WORKERS,
            postgres=self.postgres,
            with_web=True,
            proxied=[PROXIED],
            variables={MARK: self._mark, "galileo_slots": "2"},
            forked=False,
        )
        self._resources = ExitStack()
        self._log_starts: dict[str, int] = {}  # where a process's log was when it was started
        self._predecessors: dict[str, str] = {}  # the worker's instance before it was started anew

    def __enter__(self) -> Stack:
        with ExitStack() as resources:
            if self.postgres is not None:
                resources.enter_context(self.postgres)
            resources.enter_context(self.galileo)
            self.broker = self.galileo.redis.client(socket_timeout=5)
            resources.callback(self.broker.close)
            self.galileo.start(DAEMON, [str(PROJECT_ROOT / "bin" / "run"), DAEMON])
            self.wait_ready(*self.galileo.children)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def child(self, name: str) -> Child:
        return self.galileo.children[name]

    def start(self, name: str, spec: ChildSpec | None = None) -> None:
        """Starts an ended process, as it was started before or as `spec` says; it may not be ready yet."""
        spec = spec or self.child(name).spec
        self._log_starts[name] = spec.log.stat().st_size
        if name in WORKERS:
            self._predecessors[name] = self.instance_of(name)
        self.galileo.start(name, list(spec.command), **spec.environment)

    def wait_ready(self, *names: str) -> None:
        """Waits until processes that were started do their work."""
        for name in names:
            if name == "web":
                wait_for(self.galileo.web.answers, "web to answer")
            elif name in WORKERS:
                wait_for(lambda name=name: self._has_registered(name), f"{name} to register")
            if name == DAEMON:
                wait_for(lambda name=name: "instructions are taken" in self.log_of(name), f"{name} to be ready")
            if name in WORKERS or name in ("control", "ingest"):
                wait_for(lambda name=name: " ready." in self.log_of(name), f"{name} to be ready")

    def restore(self) -> None:
        """Starts what has ended, and waits until everything is ready."""
        for name, child in list(self.galileo.children.items()):
            if child.exit_status() is not None:
                self.start(name)
        self.wait_ready(*self.galileo.children)

    def log_of(self, name: str) -> str:
        """What a process has logged since it was started."""
        data = self.child(name).spec.log.read_bytes()
        return data[self._log_starts.get(name, 0) :].decode(errors="replace")

    def instance_of(self, worker: str) -> str:
        """The registered instance of a worker; '' when there is none."""
        value: Any = self.broker.get(worker_key(worker))
        return str(json.loads(value)["instance"]) if value else ""

    def processes(self) -> list[psutil.Process]:
        """All processes that carry the rig's mark, whoever started them."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def _has_registered(self, worker: str) -> bool:
        return self.instance_of(worker) not in ("", self._predecessors.get(worker))
