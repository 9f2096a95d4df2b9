"""A user's session on the running stack: interactive groups at a rate, and an experiment that records them."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.models import ClientGroup, Experiment, Shard
from galileo_site.environment import PROJECT_ROOT
from tests.faults.check import Arrival, Load, arrivals, gapped, phase_of
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from tests.faults.rig import Rig

SHELL = "shell"
# Holds an experiment until it is told to end it.
_SCRIPT = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
exp.start('fault rig')
signal.sigwait({signal.SIGTERM})
exp.stop()
"""
_OF_A_GROUP = 1000  # clients at most


class Session:
    """What a row's user does; groups are commanded over REST."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._groups: list[str] = []
        self._rated = ("", 0, 0.0)  # the group that sends at a rate, its clients, and the rate of all

    def begin(self, clients: int, rate_rps: float) -> None:
        """Lets a group send at a rate, and an experiment record it."""
        rig = self._rig
        rig.route("web")
        rig.begun_s = time.time()
        rig.galileo.start(SHELL, [str(PROJECT_ROOT / "bin" / "run"), "shell", "--verbosity=0", "-c", _SCRIPT])
        rig.cleanup.callback(self._clean_up)
        running = Experiment.objects.filter(interactive=True, status="RUNNING")
        wait_for(lambda: rig.galileo.read(running), "the session to start its experiment")
        (experiment,) = rig.galileo.read(running)
        rig.experiment_id = experiment.id
        group_id = self.spawn(clients)
        self._command(group_id, rps=rate_rps / clients)
        self._rated = group_id, clients, rate_rps
        rig.at(self._phase_of(group_id)["start_broker_ns"])

    def spawn(self, clients: int) -> str:
        """A group whose clients are ready."""
        answer = self._asks("POST", "", {"service": "web", "num": clients})
        group_id = str(answer["id"])
        self._groups.append(group_id)
        wait_for(lambda: self._asks("GET", f"/{group_id}")["ready"], "a client group to be ready")
        return group_id

    def request(self, group_id: str, clients: int, requests: int, gap_s: float) -> float:
        """Lets each client make so many requests; returns when the last one is due, in seconds since the start."""
        self._command(group_id, n=requests, ia=gap_s)
        began_ns = self._phase_of(group_id)["start_broker_ns"] - self._rig.start_ns()
        plan = [_later(arrival, began_ns) for arrival in gapped(gap_s, requests, clients)]
        self._expect(group_id, plan)
        return max(arrival.at_ns for arrival in plan) / 1e9

    def clients_on(self, worker: str) -> frozenset[int]:
        """The clients of the group that sends at a rate, as far as they are on a worker."""
        (shard,) = self._rig.galileo.read(Shard.objects.filter(group_id=self._rated[0], worker__name=worker))
        return clients_of(shard)

    def end(self, after_s: float) -> None:
        """Pauses the rate, and ends the experiment, when the load has lasted for so long."""
        rig = self._rig
        rig.pause(after_s - rig.now_s())
        wait_for(rig.galileo.web.answers, "web to answer")
        group_id, clients, rate_rps = self._rated
        self._command(group_id, rps=0)
        lasted_s = (self._phase_of(group_id)["start_broker_ns"] - rig.start_ns()) / 1e9
        self._expect(group_id, arrivals([(lasted_s, rate_rps)], clients, phase_of(self._group(group_id).workload_id)))
        rig.pause(lasted_s - rig.now_s() + 0.5)
        if rig.stack.child(SHELL).exit_status() is None:
            rig.stack.child(SHELL).process.send_signal(signal.SIGTERM)
            rig.stack.child(SHELL).process.wait(30)

    def _expect(self, group_id: str, plan: Sequence[Arrival]) -> None:
        first = _OF_A_GROUP * self._groups.index(group_id)
        self._rig.loads.append(Load(group_id, list(plan), first, is_commanded=True))

    def _command(self, group_id: str, **command: Any) -> None:
        self._asks("POST", f"/{group_id}/command", command)

    def _phase_of(self, group_id: str) -> dict[str, Any]:
        return dict(self._group(group_id).interactive_part.command_fields)

    def _group(self, group_id: str) -> ClientGroup:
        (group,) = self._rig.galileo.read(ClientGroup.objects.select_related("interactive_part").filter(id=group_id))
        return group

    def _asks(self, method: str, path: str, data: Any = None) -> dict[str, Any]:
        answer = self._rig.galileo.web.request(method, f"/groups{path}", json=data)
        if not answer.ok:
            raise AssertionError(f"{method} /groups{path} was refused: {answer.status_code} {answer.text}")
        return dict(answer.json())

    def _clean_up(self) -> None:
        """Whatever has happened: nobody sends any more, and the shell has ended."""
        rig = self._rig
        rig.galileo.stop(SHELL)
        del rig.galileo.children[SHELL]
        rig.stack.restore()
        for group_id in self._groups:
            rig.galileo.web.request("DELETE", f"/groups/{group_id}")
        wait_for(lambda: not self._are_open(), "the client groups to end")

    def _are_open(self) -> bool:
        return bool(self._rig.galileo.read(ClientGroup.objects.following().filter(id__in=self._groups)))


def clients_of(shard: Shard) -> frozenset[int]:
    """The indexes of a shard's clients."""
    return frozenset(client for bounds in shard.clients for client in range(*bounds))


def _later(arrival: Arrival, by_ns: int) -> Arrival:
    return Arrival(arrival.client, arrival.sequence, arrival.at_ns + by_ns)
