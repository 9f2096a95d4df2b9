"""The object `telemd` of the controller shell."""

from __future__ import annotations

from collections.abc import Iterable

from experiments.plans import PlanError, PlanInvalid
from experiments.plans.fields import shown
from experiments.services import nodes
from loadgen.protocol.topics import PAUSE, UNPAUSE


class Telemd:
    """Pauses, unpauses and lists what publishes telemetry: the agents of our workers, and telemd daemons beside them.

    A node is named as its worker is (or as `telemd_nodename` says). While one is paused, experiments have no telemetry
    of it. An agent that is started anew, publishes again.

        >>> telemd.list_telemd_hosts()
        ['worker-a', 'worker-b']
        >>> telemd.stop_telemd(['worker-a'])
        >>> telemd.start_telemd()
    """

    def start_telemd(self, hosts: Iterable[str] | None = None) -> None:
        """Lets nodes publish their telemetry again: those of `hosts`, a list of names, or all.

        Raises NoSuchNode when one of them does not listen, and has then told none of them anything.
        """
        nodes.tell(UNPAUSE, _names(hosts))

    def stop_telemd(self, hosts: Iterable[str] | None = None) -> None:
        """Pauses the telemetry of nodes: those of `hosts`, a list of names, or all.

        Raises NoSuchNode when one of them does not listen, and has then told none of them anything.
        """
        nodes.tell(PAUSE, _names(hosts))

    def list_telemd_hosts(self) -> list[str]:
        """The names of all nodes that listen, paused ones too."""
        return nodes.listening()

    def __repr__(self) -> str:
        return "telemd: start_telemd(hosts=None), stop_telemd(hosts=None), list_telemd_hosts()"


def _names(hosts: object) -> list[str] | None:
    """A single name is meant as such, not as its letters. Raises PlanInvalid for what are no names."""
    if hosts is None:
        return None
    listed = list(hosts) if isinstance(hosts, Iterable) and not isinstance(hosts, str) else [hosts]
    for name in listed:
        if not isinstance(name, str):
            raise PlanInvalid([PlanError("hosts", f"a list of names is needed, not {shown(name)}")])
    return [str(name) for name in listed]
