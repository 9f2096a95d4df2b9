"""Telemd: the shell's `telemd`, for the telemetry of nodes."""

from __future__ import annotations

from collections.abc import Iterable

from experiments.services import nodes
from loadgen.protocol.topics import PAUSE, UNPAUSE
from routing.errors import Code, InvalidInput


class Telemd:
    """Pauses, unpauses and lists the publishers of telemetry: the agents of our workers, and telemd daemons.

    A node has the name of its worker (or its `telemd_nodename`). While a node is paused, experiments have no telemetry
    of it. A restarted agent publishes again.

        >>> telemd.list_telemd_hosts()
        ['worker-a', 'worker-b']
        >>> telemd.stop_telemd(['worker-a'])
        >>> telemd.start_telemd()
    """

    def start_telemd(self, hosts: Iterable[str] | None = None) -> None:
        """Unpauses the telemetry of nodes: those of `hosts`, a list of names, or all.

        Raises NoSuchNode when one of them is not listening; then no node is changed.
        """
        nodes.send_command(UNPAUSE, _names(hosts))

    def stop_telemd(self, hosts: Iterable[str] | None = None) -> None:
        """Pauses the telemetry of nodes: those of `hosts`, a list of names, or all.

        Raises NoSuchNode when one of them is not listening; then no node is changed.
        """
        nodes.send_command(PAUSE, _names(hosts))

    def list_telemd_hosts(self) -> list[str]:
        """Returns the names of all listening nodes, paused nodes included."""
        return nodes.listening()

    def __repr__(self) -> str:
        return "telemd: start_telemd(hosts=None), stop_telemd(hosts=None), list_telemd_hosts()"


def _names(hosts: object) -> list[str] | None:
    """Returns the names; a string is one name. Raises InvalidInput."""
    if hosts is None:
        return None
    listed = list(hosts) if isinstance(hosts, Iterable) and not isinstance(hosts, str) else [hosts]
    for name in listed:
        if not isinstance(name, str):
            raise InvalidInput.of("hosts", Code.TYPE, f"must be a list of names, got {name!r}")
    return [str(name) for name in listed]
