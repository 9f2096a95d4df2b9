"""Commands → the configuration and the events of a plan.

Each spawn is a workload of its worker's name, from the plan's start to its end: silent until `rps` says otherwise, and
again after `close`. An interval is the time between two changes of a rate; the sleeps together are the duration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.instructions.hosts import fits
from experiments.instructions.script import Close, Command, Mark, Rate, Sleep, Spawn
from experiments.plans import PlanInvalid
from experiments.plans.fields import MAX_DURATION_S, NS
from experiments.plans.plan import MAX_EVENTS, MAX_LISTED_INTERVALS, MAX_WORKLOADS, plain_intervals
from experiments.plans.workload import MAX_CLIENTS, MAX_RATE_RPS
from experiments.services.placement import NoMatchingWorkers
from routing.errors import Code, ErrorCollector

# The numbers of all workloads together travel in the plan, and each workload's in its group's document.
MAX_TICKS = 200_000
SCRIPT = "script"


def compile_script(
    commands: Sequence[Command], hosts: Callable[[str], Mapping[str, int]], app_of: Callable[[str], str | None]
) -> dict[str, Any]:
    """The `configuration` and the `events` of the plan that does what the commands say.

    Args:
        hosts: the names of the live workers that a HOST means, with their slots; raises NoMatchingWorkers.
        app_of: the client app of a SERVICE, if it has one.

    Raises:
        PlanInvalid: with every error; a path reads like `line 3`, or `script` where no one line is wrong.
    """
    compiler = _Compiler(hosts, app_of)
    for command in commands:
        compiler.take(command)
    return compiler.finish()


@dataclass
class _Group:
    """The clients of one spawn on one worker; `ticks` holds their rate together in each interval so far."""

    host: str
    spawn: Spawn
    ticks: list[float] = field(default_factory=list)
    rate_rps: float = 0.0  # all clients together, from now on
    is_open: bool = True

    def is_meant(self, command: Rate | Close) -> bool:
        """As in the original, clients are named by worker, service and client app, which is the service's if unsaid."""
        return (
            self.is_open
            and self.spawn.service == command.service
            and (self.spawn.client or command.service) == (command.client or command.service)
            and fits(command.host, self.host)
        )


class _Compiler:
    """Goes through a script once, and keeps what time it is."""

    def __init__(self, hosts: Callable[[str], Mapping[str, int]], app_of: Callable[[str], str | None]) -> None:
        self._hosts = hosts
        self._app_of = app_of
        self._errors = ErrorCollector()
        self._groups: list[_Group] = []
        self._intervals_ns: list[int] = []
        self._events: list[dict[str, Any]] = []
        self._now_ns = 0
        self._said: set[str] = set()

    def take(self, command: Command) -> None:
        match command:
            case Spawn():
                self._spawn(command)
            case Rate():
                self._rate(command)
            case Sleep():
                self._sleep(command)
            case Close():
                for group in self._meant(command):
                    group.rate_rps, group.is_open = 0.0, False
            case Mark():
                self._mark(command)

    def finish(self) -> dict[str, Any]:
        self._check_whole()
        self._errors.raise_if_any(PlanInvalid)
        return {
            "configuration": {
                "duration": self._now_ns / NS,
                "interval": plain_intervals(self._intervals_ns),
                "workloads": [self._workload(group) for group in self._groups],
            },
            "events": self._events,
        }

    def _spawn(self, command: Spawn) -> None:
        try:
            hosts = self._hosts(command.host)
        except NoMatchingWorkers as error:
            self._wrong(command, Code.MISSING, str(error))
            hosts = {command.host: MAX_WORKLOADS}  # what follows speaks of these clients, and is not wrong by itself
        if len(self._groups) + len(hosts) > MAX_WORKLOADS:
            self._wrong_once(
                command, f"at most {MAX_WORKLOADS} spawns are accepted, one for each worker that HOST means"
            )
            return
        for host, slots in hosts.items():
            self._groups.append(_Group(host, command, [0.0] * len(self._intervals_ns)))
            if sum(group.host == host for group in self._groups) > slots:
                self._wrong_once(
                    command,
                    f"each spawn takes a slot of its worker for the whole experiment, and {host} has {slots}: spawn "
                    "fewer times, on other workers, or raise its galileo_slots",
                )
        if sum(group.spawn.clients for group in self._groups) > MAX_CLIENTS:
            self._wrong_once(command, f"at most {MAX_CLIENTS:,} clients in total are accepted")

    def _rate(self, command: Rate) -> None:
        for group in self._meant(command):
            group.rate_rps = command.rate_rps * group.spawn.clients
            if group.rate_rps > MAX_RATE_RPS:
                self._wrong(
                    command,
                    Code.RANGE,
                    f"{group.spawn.clients} clients at {command.rate_rps:g} requests/s each are more than "
                    f"{MAX_RATE_RPS:,} requests/s: lower RATE",
                )

    def _sleep(self, command: Sleep) -> None:
        if not command.duration_ns:
            return
        self._now_ns += command.duration_ns
        if self._now_ns > MAX_DURATION_S * NS:
            self._wrong_once(command, "the sleeps up to here are more than 7 days together; that is the most")
        if self._intervals_ns and all(group.rate_rps == group.ticks[-1] for group in self._groups):
            self._intervals_ns[-1] += command.duration_ns
            return
        self._intervals_ns.append(command.duration_ns)
        for group in self._groups:
            group.ticks.append(group.rate_rps)

    def _mark(self, command: Mark) -> None:
        if len(self._events) == MAX_EVENTS:
            self._wrong_once(command, f"at most {MAX_EVENTS:,} events are accepted")
        else:
            self._events.append({"at": self._now_ns / NS, "name": command.name, "value": command.value})

    def _meant(self, command: Rate | Close) -> list[_Group]:
        meant = [group for group in self._groups if group.is_meant(command)]
        if not meant:
            clients = f"{command.service} on {command.host}"
            if command.client:
                clients = f"the client app {command.client} for {clients}"
            self._wrong(
                command, Code.MISSING, f"there are no clients of {clients} here: spawn them first, in the same words"
            )
        return meant

    def _check_whole(self) -> None:
        if not self._groups:
            self._errors.add(SCRIPT, Code.REQUIRED, "nobody is spawned: begin with `spawn HOST SERVICE NUM`")
        elif not self._intervals_ns:
            self._errors.add(
                SCRIPT, Code.REQUIRED, "it takes no time: say with `sleep SECONDS` how long each rate holds"
            )
        elif not any(any(group.ticks) for group in self._groups):
            self._errors.add(
                SCRIPT, Code.REQUIRED, "nothing is sent: `rps HOST SERVICE RATE`, above 0, belongs before a `sleep`"
            )
        if len(self._groups) * len(self._intervals_ns) > MAX_TICKS:
            self._errors.add(
                SCRIPT, Code.RANGE, "the rates of so many clients change too often: make several scripts of it"
            )
        if (
            isinstance(plain_intervals(self._intervals_ns or [NS]), list)
            and len(self._intervals_ns) > MAX_LISTED_INTERVALS
        ):
            self._errors.add(
                SCRIPT,
                Code.RANGE,
                f"its rates change more than {MAX_LISTED_INTERVALS:,} times, after sleeps of different lengths: make "
                "these equal, or make several scripts of it",
            )

    def _workload(self, group: _Group) -> dict[str, Any]:
        client = group.spawn.client or self._app_of(group.spawn.service)
        return {
            "service": group.spawn.service,
            "ticks": group.ticks,
            "clients_per_host": group.spawn.clients,
            **({"client": client} if client else {}),
            **({"client_parameters": group.spawn.parameters} if group.spawn.parameters else {}),
            "worker_labels": {"worker_name": group.host},
        }

    def _wrong(self, command: Command, code: Code, message: str) -> None:
        self._errors.add(f"line {command.line}", code, message)

    def _wrong_once(self, command: Command, message: str) -> None:
        """Of a limit that every further line breaks, too."""
        if message not in self._said:
            self._said.add(message)
            self._wrong(command, Code.RANGE, message)
