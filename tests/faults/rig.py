"""What a fault's function gets: one row's experiment on the running stack, and the tools to do it harm."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from math import inf
from typing import Any

import psutil

from experiments.models import Shard
from loadgen.protocol.keys import INSTRUCTIONS_KEY, shard_key
from tests.faults.check import IF_SENT, MAY, MUST, NEVER, Load, Span, arrivals
from tests.faults.faults import Fault
from tests.faults.session import Session, clients_of
from tests.faults.stack import PROXIED, Stack
from tests.support.http_target import HttpTarget
from tests.support.plans import plan_data
from tests.support.process_tree import agents_of
from tests.support.proxy import Proxy
from tests.support.waiting import wait_for

CLIENTS = 6
RATES = (30.0, 50.0)  # requests per second in the first and the second half of a plan

# A shard seals a batch at least every 250 ms and looks every 50 ms; what it had not sealed when it was killed is lost.
UNSEALED_S = 0.4
# An arrival that is due at about the moment of a fault may be sent or not.
BLUR_S = 0.1

Clients = frozenset[int]


class Rig:
    """One row.

    Attributes:
        begun_s: when the plan was submitted, by the host's clock.
        spans: what the fault means for the arrivals (tests/faults/check.py).
        findings: what is wrong so far.
        cleanup: what is called when the row is over, before the stack is restored.
        moment_s: when the fault strikes, in seconds since the start of the load.
        random: seeded for this row.
        loads: what is to be sent by which groups.
        session: what a row's user does whose load is commanded.
    """

    def __init__(self, stack: Stack, fault: Fault, target: HttpTarget, seed: str) -> None:
        self.stack = stack
        self.galileo = stack.galileo
        self.broker = stack.broker
        self.random = random.Random(seed)
        self.moment_s = self.random.uniform(*fault.window_s)
        self.experiment_id = ""
        self.begun_s = 0.0
        self.spans: list[Span] = []
        self.findings: list[str] = []
        self.cleanup = ExitStack()
        self.loads: list[Load] = []
        self.session = Session(self)
        self._fault = fault
        self._target = target
        self._start_ns = 0

    # --- the experiment -----------------------------------------------------------------------------------------------

    def plan(self, **configuration: Any) -> dict[str, Any]:
        """The row's plan: constant, with one change of the rate half-way."""
        plan = plan_data(
            duration=self._fault.duration_s,
            interval=self._fault.duration_s / len(RATES),
            ticks=list(RATES),
            clients_per_host=CLIENTS,
            routing=[{"service": "web", "hosts": [self._target.host], "weights": [1]}],
        )
        plan["configuration"] |= {**self._fault.configuration, **configuration}
        return plan

    def begin(self) -> None:
        """Submits the row's plan."""
        self.begun_s = time.time()
        self.experiment_id = self.galileo.web.begin(self.plan())
        self.expect_load([(self._fault.duration_s / len(RATES), rate) for rate in RATES], CLIENTS)

    def expect_load(self, steps: Sequence[tuple[float, float]], clients: int) -> None:
        """Says what the experiment's only workload is to send."""
        self.loads = [Load(f"{self.experiment_id}.0", arrivals(steps, clients))]

    def route(self, service: str) -> None:
        """Lets a service lead to the row's target."""
        self.galileo.manage("set_route", service, self._target.host)

    def push(self, script: str) -> None:
        """Pushes an instruction script, and waits until it is an experiment."""
        self.begun_s = time.time()
        self.broker.lpush(INSTRUCTIONS_KEY, json.dumps({"instructions": script}))

    def status(self) -> str:
        return self.galileo.status(self.experiment_id)

    def wait_for_status(self, *statuses: str, within_s: float = 60.0) -> None:
        what = f"{self.experiment_id} to become {' or '.join(statuses)}"
        wait_for(lambda: self.status() in statuses, what, within_s)

    def start_ns(self) -> int:
        """When the load starts, by the host's clock, which is the broker's; 0 while that is not known."""
        if not self._start_ns:
            self._start_ns = self.galileo.experiment(self.experiment_id).start_broker_ns or 0
        return self._start_ns

    def start_s(self) -> float:
        """As `start_ns`, in seconds."""
        return self.start_ns() / 1e9

    def now_s(self) -> float:
        """Seconds since the start of the load."""
        return time.time() - self.start_s()

    def until_moment(self) -> None:
        """Waits for the moment at which the fault is to strike."""
        self.until(self.moment_s)

    def until(self, at_s: float) -> None:
        """Waits for a time since the start of the load."""
        self.wait_for_status("RUNNING")
        self.pause(at_s - self.now_s())

    def pause(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def expect(
        self, from_s: float, to_s: float = inf, *, clients: Clients | None = None, sent: str = MUST, row: str = MUST
    ) -> None:
        """Says what becomes of the arrivals in a span of time; a later word counts more."""
        self.spans.append(Span(clients, from_s, to_s, sent, row))

    def at(self, start_ns: int) -> None:
        """Says what times count from, where that is not the experiment's start."""
        self._start_ns = start_ns

    def claim(self, is_so: object, otherwise: str) -> None:
        """Notes a finding unless it is so."""
        if not is_so:
            self.findings.append(otherwise)

    def requests_of(self, experiment_id: str) -> list[str]:
        """The ids of an experiment's, or a group's, requests that the target has seen."""
        return self._target.ids(experiment_id)

    # --- processes ----------------------------------------------------------------------------------------------------

    def kill(self, *names: str) -> None:
        """kill -9 of main processes."""
        for name in names:
            self.stack.child(name).process.kill()
        for name in names:
            self.stack.child(name).process.wait()

    def start(self, *names: str) -> None:
        """Starts ended processes again; they may not be ready yet."""
        for name in names:
            self.stack.start(name)

    def start_otherwise(self, name: str, *arguments: str, **environment: str) -> None:
        """Ends a process and starts it, until it is ready, with more arguments and variables, for this row alone."""
        spec = self.stack.child(name).spec
        self.cleanup.callback(self._exchange, name, spec)
        command, variables = [*spec.command, *arguments], {**spec.environment, **environment}
        self._exchange(name, dataclasses.replace(spec, command=command, environment=variables))

    def start_beside(self, name: str, like: str, *arguments: str, **environment: str) -> None:
        """Starts a further process as `like` was started, for this row alone."""
        spec = self.stack.child(like).spec
        self.galileo.start(name, [*spec.command, *arguments], **{**spec.environment, **environment})
        self.cleanup.callback(self._end, name)

    def main_of(self, name: str) -> psutil.Process:
        return psutil.Process(self.stack.child(name).pid)

    def agent_of(self, worker: str) -> psutil.Process:
        """The agent's process."""
        return agents_of(self.main_of(worker))[0]

    def stop_for_now(self, process: psutil.Process) -> Callable[[], None]:
        """Sends SIGSTOP; what is returned sends SIGCONT, which the row's end does, too."""

        def go_on() -> None:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

        process.send_signal(signal.SIGSTOP)
        self.cleanup.callback(go_on)
        return go_on

    # --- shards and workers -------------------------------------------------------------------------------------------

    def shard_on(self, worker: str) -> tuple[int, Clients]:
        """The id and the clients of the shard that the experiment has on a worker."""
        shards = Shard.objects.filter(group__experiment_id=self.experiment_id, worker__name=worker)
        (shard,) = self.galileo.read(shards)
        return shard.id, clients_of(shard)

    def kill_shard(self, worker: str) -> None:
        """kill -9 of the process that runs the worker's shard."""
        shard_id, clients = self.shard_on(worker)
        status: Any = self.broker.get(shard_key(shard_id))
        process = psutil.Process(json.loads(status)["pid"])
        process.kill()
        self._expect_no_more(clients)

    def kill_worker(self, worker: str, unsealed_s: float = UNSEALED_S) -> None:
        """kill -9 of all processes of a worker at once, its shard's included."""
        _, clients = self.shard_on(worker)
        self.kill_family(worker)
        self._expect_no_more(clients, unsealed_s)

    def kill_family(self, name: str) -> None:
        """kill -9 of a process and all that it has started, at once."""
        os.killpg(self.stack.child(name).pid, signal.SIGKILL)
        self.stack.child(name).process.wait()

    def _expect_no_more(self, clients: Clients, unsealed_s: float = UNSEALED_S) -> None:
        at_s = self.now_s()
        self.expect(at_s - unsealed_s, clients=clients, row=MAY)
        self.expect(at_s - BLUR_S, clients=clients, sent=MAY, row=MAY)
        self.expect(at_s, clients=clients, sent=NEVER, row=IF_SENT)

    # --- broker, database, network ------------------------------------------------------------------------------------

    @property
    def proxy(self) -> Proxy:
        """What stands between PROXIED and the broker; healed at the row's end."""
        proxy = self.galileo.proxies[PROXIED]
        self.cleanup.callback(proxy.heal)
        return proxy

    def stop_broker(self, *, kill: bool) -> None:
        if kill:
            self.galileo.redis.kill()
        else:
            self.galileo.redis.stop()

    def start_broker(self) -> None:
        self.galileo.redis.start()

    def restart_broker(self, *, kill: bool) -> None:
        self.stop_broker(kill=kill)
        self.start_broker()

    @contextmanager
    def locked_database(self) -> Iterator[None]:
        """SQLite's file, locked by somebody else."""
        with closing(sqlite3.connect(self.galileo.database, isolation_level=None, timeout=20)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")

    def _exchange(self, name: str, spec: Any) -> None:
        self.galileo.stop(name)
        self.stack.start(name, spec)
        self.stack.wait_ready(name)

    def _end(self, name: str) -> None:
        self.galileo.stop(name)
        del self.galileo.children[name]
