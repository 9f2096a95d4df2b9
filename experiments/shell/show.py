"""The shell's `show`: tables of what there is."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from experiments import selectors
from experiments.services import registry
from experiments.shell.client_group import ClientGroup


class Show:
    """Prints what there is now, as tables.

    show.workers()   the live workers
    show.clients()   the clients of the groups that are not closed
    show.info()      these groups and what they do; with parameters=True, what they send, too
    """

    def workers(self) -> None:
        """The live workers, their labels and slots."""
        rows = []
        registry.sync_workers()
        for load in selectors.live_workers():
            worker = load.worker
            labels = " ".join(f"{label}={value}" for label, value in sorted(worker.labels.items()))
            rows.append(
                (worker.name, worker.status, worker.machine, worker.cores, f"{load.used_slots}/{worker.slots}", labels)
            )
        _print(("Worker", "Status", "Machine", "Cores", "Slots", "Labels"), rows)

    def clients(self) -> None:
        """Each client, and what it has done so far."""
        rows = []
        for group in selectors.open_groups():
            workers = dict(group.clients.values_list("index", "shard__worker__name"))
            for info in ClientGroup([group.id]).info():
                worker = workers.get(int(info.client_id.rpartition(".")[2])) or ""
                rows.append((info.client_id, group.workload.service, worker, info.requests, info.failures))
        _print(("Client", "Service", "Worker", "Requests", "Failures"), rows)

    def info(self, parameters: bool = False) -> None:
        """Each client group, and what it does."""
        rows = []
        for group in selectors.open_groups():
            row = [group.id, group.workload.service, group.total_clients, selectors.doing(group), group.creator]
            if parameters:
                row.append(selectors.sends(group))
            rows.append(row)
        head = ("Group", "Service", "Clients", "Does", "Creator")
        _print((*head, "Sends") if parameters else head, rows)


def _print(head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    table = Table()
    for name in head:
        table.add_column(name)
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)
