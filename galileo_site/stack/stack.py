"""Stack: the processes of one machine's Galileo, started in stages and stopped in the reverse order."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from galileo_site.stack import ports, processes
from galileo_site.stack.child_environment import Environments, manage, run
from galileo_site.stack.config import HOST, SERVICE_NAME, SERVICE_WEIGHTS, WORKER_ZONES, StackConfig, StackError
from galileo_site.stack.embedded_redis import find_binary, server_spec
from galileo_site.stack.probes import celery_answers, http_answers, redis_client, worker_registered
from galileo_site.stack.processes import Child, ChildSpec
from galileo_site.stack.state import StateDir
from loadgen.backoff import Backoff
from loadgen.interruption import Interruption

log = logging.getLogger(__name__)

DEMO, UP = "demo", "up"
# A worker ends its shards first, and then its agent forwards the last batches.
_WORKER_GRACE_S = 40.0


@dataclass
class _Slot:
    """The place of a child and of the children that replace it."""

    child: Child
    backoff: Backoff = field(default_factory=Backoff)
    restarts: int = 0
    restart_at_s: float | None = None

    @property
    def state(self) -> str:
        if self.restart_at_s is not None:
            return "ended, starts again soon"
        return "starting" if self.child.ready_at_s is None else "running"


def check_machine(config: StackConfig) -> None:
    """Raises StackError for a problem that can be found before anything is started."""
    find_binary()
    ports.check_free(config.web_port, "web server", "galileo_web_port")
    if config.redis_port:
        ports.check_free(config.redis_port, "Redis server", "galileo_redis_port")


class Stack:
    """All processes of one machine's Galileo. The caller holds the state directory's lock, and always calls `stop`."""

    def __init__(
        self, kind: str, config: StackConfig, state: StateDir, interruption: Interruption, say: Callable[[str], None]
    ) -> None:
        self._kind = kind
        self._started_at_s = time.time()
        self._config = config
        self._state = state
        self._interruption = interruption
        self._say = say
        self._secrets = state.secrets()
        self._redis_port = config.redis_port or ports.pick_free({config.web_port})
        self.service_ports: list[int] = []
        for _ in SERVICE_WEIGHTS:
            self.service_ports.append(ports.pick_free({config.web_port, self._redis_port, *self.service_ports}))
        self.environments = Environments(config, state, self._redis_port)
        self._stages: list[list[_Slot]] = []
        self._announced: list[Child] = []

    @property
    def routes(self) -> list[str]:
        """`host:port@weight` of each instance of the example service."""
        return [f"{HOST}:{port}@{weight}" for port, weight in zip(self.service_ports, SERVICE_WEIGHTS, strict=True)]

    @property
    def service_names(self) -> list[str]:
        return [f"service-{number}" for number in range(1, len(SERVICE_WEIGHTS) + 1)]

    def start(self) -> None:
        """Starts everything and waits until it is ready. Raises StackError, Interrupted."""
        processes.adopt_orphans()
        self._state.start_new_logs()
        redis_log = self._state.log("redis")
        self._start_stage(server_spec(self._state.redis, self._redis_port, self._secrets.redis_password, redis_log))
        self._start_stage(*map(self._service, range(len(SERVICE_WEIGHTS))), wait=False)
        self._command("migrate", "--verbosity=1", "--no-input")
        self._command("ensure_admin")
        self._say("  database    ready")
        if self._kind == UP:
            self._command("set_route", SERVICE_NAME, *self.routes)
        self._wait_ready()
        self._start_stage(*self._controller())
        self._start_stage(*map(self._worker, WORKER_ZONES))

    def watch(self) -> None:
        """Restarts children that have died, after a pause that grows, and writes the state file after each change."""
        changed = False
        now_s = time.monotonic()
        for slot in self._slots:
            status = slot.child.exit_status()
            if status is None:
                changed |= slot.child.ready_at_s is None and slot.child.check_ready()
            elif slot.restart_at_s is None:
                pause_s = slot.backoff.pause_s(now_s - slot.child.started_at_s)
                slot.restart_at_s = now_s + pause_s
                log.warning(
                    "%s (pid %d) ended with status %d; it starts again in %g s",
                    slot.child.name, slot.child.pid, status, pause_s,
                )  # fmt: skip
                changed = True
            elif now_s >= slot.restart_at_s:
                slot.child = processes.start(slot.child.spec)
                slot.restarts += 1
                slot.restart_at_s = None
                log.warning("%s started again (pid %d)", slot.child.name, slot.child.pid)
                changed = True
        if changed:
            self.write_state("running")

    def stop(self) -> None:
        """Stops everything, the last started first, and the processes left behind. Raises StackError if that fails."""
        while self._stages:
            stage = [slot.child for slot in self._stages.pop()]
            for name in processes.stop(stage, self._interruption):
                log.warning("%s did not end within its time and was killed", name)
            left = [slot.child for slot in self._slots]
            for command in processes.end_strays(left, grace_s=0.0 if self._interruption.hurry else 5.0):
                log.warning("ended a process that was left behind: %s", command)

    def write_state(self, phase: str) -> None:
        """Describes the stack in the state file."""
        self._state.write_state(
            {
                "pid": os.getpid(),
                "kind": self._kind,
                "phase": phase,
                "started_at": self._started_at_s,
                "web_url": self._config.web_url,
                "admin_user": self._config.admin_user,
                "api_auth": self._config.api_auth,
                "children": [
                    {"name": slot.child.name, "pid": slot.child.pid, "state": slot.state, "restarts": slot.restarts}
                    for slot in self._slots
                ],
            }
        )

    @property
    def _slots(self) -> list[_Slot]:
        return [slot for stage in self._stages for slot in stage]

    def _start_stage(self, *specs: ChildSpec, wait: bool = True) -> None:
        self._interruption.check()
        self._stages.append([])  # before the first one starts, so that `stop` finds each of them
        for spec in specs:
            self._stages[-1].append(_Slot(processes.start(spec)))
        if wait:
            self._wait_ready()

    def _wait_ready(self) -> None:
        """Waits until all children are ready. Raises StackError also for one that has died since it was ready."""
        children = [slot.child for slot in self._slots]
        for child in children:
            if child.ready_at_s is not None and child.exit_status() is not None:
                raise StackError(f"{child.name} has ended while others were starting:\n{child.log_tail()}")
        waiting = [child for child in children if child not in self._announced]
        processes.wait_ready(waiting, self._interruption, self._say)
        self._announced += waiting

    def _check_ready(self) -> None:
        for slot in self._slots:
            slot.child.check_ready()

    def _command(self, *arguments: str) -> None:
        name = arguments[0]
        spec = ChildSpec(name, manage(*arguments), self.environments.controller(), self._state.log(name))
        child = processes.run_to_end(spec, self._interruption, meanwhile=self._check_ready)
        if status := child.exit_status():
            raise StackError(f"{name} failed with exit status {status}:\n{child.log_tail()}")

    def _service(self, index: int) -> ChildSpec:
        name, port = self.service_names[index], self.service_ports[index]
        options = {
            "--name": name,
            "--port": str(port),
            "--log": str(self._state.request_log(name)),
            # About 50 requests per second for each instance: enough for examples/*.yml, and so few that the response
            # time visibly grows with the load.
            "--concurrency": "2",
            "--service-time-ms": "40",
            "--seed": str(index),
        }
        return ChildSpec(
            name=name,
            command=[sys.executable, "-m", "examples.service", *(part for pair in options.items() for part in pair)],
            environment=self.environments.service(),
            log=self._state.log(name),
            is_ready=http_answers(port, "/"),
        )

    def _controller(self) -> list[ChildSpec]:
        broker = f"redis://:{self._secrets.redis_password}@{HOST}:{self._redis_port}/0"
        probes = {
            "web": http_answers(self._config.web_port, "/"),
            "control": celery_answers(broker, "control"),
            "ingest": celery_answers(broker, "ingest"),
            "beat": None,
            "experimentd": None,
        }
        environment = self.environments.controller()
        return [
            ChildSpec(name, run("api" if name == "web" else name), environment, self._state.log(name), probe)
            for name, probe in probes.items()
        ]

    def _worker(self, name: str) -> ChildSpec:
        client = redis_client(self._redis_port, self._secrets.redis_password)
        return ChildSpec(
            name=name,
            command=run("worker"),
            environment=self.environments.worker(name),
            log=self._state.log(name),
            is_ready=worker_registered(client, name),
            grace_s=_WORKER_GRACE_S,
        )
