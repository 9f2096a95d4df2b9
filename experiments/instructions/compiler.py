"""compile_script: the commands of a script → the configuration and the events of a plan.

Each spawn becomes a workload of each worker that its HOST matches, from the plan's start to its end; its rate is 0
until an `rps` sets it, and again after a `close`. The plan's intervals are the times between two changes of a rate; its
duration is the sum of the sleeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from experiments.instructions.script import Close, Command, Mark, Rate, Sleep, Spawn
from experiments.plans.fields import MAX_DURATION_S, NS
from experiments.plans.plan import MAX_EVENTS, MAX_LISTED_INTERVALS, MAX_WORKLOADS, plain_intervals
from experiments.plans.workload import MAX_CLIENTS, MAX_RATE_RPS
from experiments.services.workers import NoMatchingWorkers, matching_workers
from routing.errors import Code, ErrorCollector

# The plan holds the rates of all workloads, and each group's document those of its workload.
MAX_TICKS = 200_000
SCRIPT = "script"

# The original takes regular expressions. Of these, the usual ones for device names are accepted: [0-9], . and .* (or *,
# or ?), none of which can take exponential time.
_PATTERN = re.compile(r"[*?\[]")


def live_hosts(host: str) -> dict[str, int]:
    """Name → slots of the live workers that a HOST matches: a worker's name, or a pattern; sorted by name.

    Raises:
        NoMatchingWorkers: no live worker matches; the message lists the live workers.
    """
    if not _PATTERN.search(host):
        return {worker.name: worker.slots for worker in matching_workers({"worker_name": host})}
    live = {worker.name: worker.slots for worker in matching_workers({})}
    found = {name: live[name] for name in sorted(live) if matches(host, name)}
    if not found:
        names = ", ".join(sorted(live))
        raise NoMatchingWorkers(f"no live worker's name matches {host} (live workers: {names})")
    return found


def matches(host: str, name: str) -> bool:
    """Whether a HOST matches the name of a worker."""
    return host == name or bool(_PATTERN.search(host) and fnmatchcase(name, host.replace(".*", "*")))


def compile_script(
    commands: Sequence[Command], hosts: Callable[[str], Mapping[str, int]], app_of: Callable[[str], str | None]
) -> dict[str, Any]:
    """The `configuration` and the `events` of the plan of a script.

    Args:
        hosts: HOST → name → slots of the live workers that it matches; raises NoMatchingWorkers.
        app_of: SERVICE → its client app, or None.

    Raises:
        InvalidInput: with every error; its path is like `line 3`, or `script` if it concerns the whole script.
    """
    compiler = _Compiler(hosts, app_of)
    for command in commands:
        compiler.take(command)
    return compiler.finish()


@dataclass
class _Group:
    """The clients of one spawn on one worker; `ticks` holds their total rate in each interval so far."""

    host: str
    spawn: Spawn
    ticks: list[float] = field(default_factory=list)
    rate_rps: float = 0.0  # the present rate of all clients together
    is_open: bool = True

    def is_selected(self, command: Rate | Close) -> bool:
        """Whether the command selects these clients.

        As in the original, clients are selected by worker, service and client app, which defaults to the service's.
        """
        return (
            self.is_open
            and self.spawn.service == command.service
            and (self.spawn.client or command.service) == (command.client or command.service)
            and matches(command.host, self.host)
        )


class _Compiler:
    """Runs through the commands once; `_now_ns` is the plan's time at the present command."""

    def __init__(self, hosts: Callable[[str], Mapping[str, int]], app_of: Callable[[str], str | None]) -> None:
        self._hosts = hosts
        self._app_of = app_of
        self._errors = ErrorCollector()
        self._groups: list[_Group] = []
        self._intervals_ns: list[int] = []
        self._events: list[dict[str, Any]] = []
        self._now_ns = 0
        self._reported: set[str] = set()

    def take(self, command: Command) -> None:
        match command:
            case Spawn():
                self._spawn(command)
            case Rate():
                self._rate(command)
            case Sleep():
                self._sleep(command)
            case Close():
                for group in self._selected(command):
                    group.rate_rps, group.is_open = 0.0, False
            case Mark():
                self._mark(command)

    def finish(self) -> dict[str, Any]:
        self._check_whole()
        self._errors.raise_if_any()
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
            hosts = {command.host: MAX_WORKLOADS}  # so that later commands for these clients are not errors, too
        if len(self._groups) + len(hosts) > MAX_WORKLOADS:
            message = f"at most {MAX_WORKLOADS} spawns are accepted; each counts once for each worker that HOST matches"
            return self._over_limit(command, message)
        for host, slots in hosts.items():
            self._groups.append(_Group(host, command, [0.0] * len(self._intervals_ns)))
            if sum(group.host == host for group in self._groups) > slots:
                self._over_limit(
                    command,
                    f"each spawn takes a slot of its worker for the whole experiment, and {host} has {slots}: use "
                    "fewer spawns or other workers, or raise its galileo_slots",
                )
        if sum(group.spawn.clients for group in self._groups) > MAX_CLIENTS:
            self._over_limit(command, f"at most {MAX_CLIENTS:,} clients in total are accepted")

    def _rate(self, command: Rate) -> None:
        for group in self._selected(command):
            group.rate_rps = command.rate_rps * group.spawn.clients
            if group.rate_rps > MAX_RATE_RPS:
                self._wrong(
                    command,
                    Code.RANGE,
                    f"{group.spawn.clients} clients at {command.rate_rps:g} requests/s each exceed "
                    f"{MAX_RATE_RPS:,} requests/s: lower RATE",
                )

    def _sleep(self, command: Sleep) -> None:
        if not command.duration_ns:
            return
        self._now_ns += command.duration_ns
        if self._now_ns > MAX_DURATION_S * NS:
            self._over_limit(command, "the sleeps up to here must take at most 7 days in total")
        if self._intervals_ns and all(group.rate_rps == group.ticks[-1] for group in self._groups):
            self._intervals_ns[-1] += command.duration_ns
            return
        self._intervals_ns.append(command.duration_ns)
        for group in self._groups:
            group.ticks.append(group.rate_rps)

    def _mark(self, command: Mark) -> None:
        if len(self._events) == MAX_EVENTS:
            self._over_limit(command, f"at most {MAX_EVENTS:,} events are accepted")
        else:
            self._events.append({"at": self._now_ns / NS, "name": command.name, "value": command.value})

    def _selected(self, command: Rate | Close) -> list[_Group]:
        selected = [group for group in self._groups if group.is_selected(command)]
        if not selected:
            clients = f"{command.service} on {command.host}"
            if command.client:
                clients = f"the client app {command.client} for {clients}"
            message = f"no clients of {clients} exist at this point: add a `spawn` with the same words before"
            self._wrong(command, Code.MISSING, message)
        return selected

    def _check_whole(self) -> None:
        intervals = len(self._intervals_ns)
        if not self._groups:
            self._errors.add(SCRIPT, Code.REQUIRED, "it spawns no clients: begin with `spawn HOST SERVICE NUM`")
        elif not intervals:
            self._errors.add(SCRIPT, Code.REQUIRED, "it has no duration: add a `sleep SECONDS` after each `rps`")
        elif not any(any(group.ticks) for group in self._groups):
            message = "it sends no requests: add an `rps HOST SERVICE RATE` above 0 before a `sleep`"
            self._errors.add(SCRIPT, Code.REQUIRED, message)
        if len(self._groups) * intervals > MAX_TICKS:
            message = f"spawns × changes of rates must be at most {MAX_TICKS:,}: divide it into several scripts"
            self._errors.add(SCRIPT, Code.RANGE, message)
        if intervals > MAX_LISTED_INTERVALS and isinstance(plain_intervals(self._intervals_ns), list):
            message = (
                f"with sleeps of different lengths, its rates may change at most {MAX_LISTED_INTERVALS:,} times: make "
                "the sleeps equal, or divide it into several scripts"
            )
            self._errors.add(SCRIPT, Code.RANGE, message)

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

    def _over_limit(self, command: Command, message: str) -> None:
        """Reports a limit once, although every further line exceeds it, too."""
        if message not in self._reported:
            self._reported.add(message)
            self._wrong(command, Code.RANGE, message)
