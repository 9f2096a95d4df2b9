"""Show: the shell's `show`, which prints tables of workers and client groups."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from experiments import selectors
from experiments.services import workers
from experiments.shell.client_group import ClientGroup


class Show:
    """Prints tables of workers and client groups.

    show.workers()   the live workers
    show.clients()   the clients of the open groups
    show.info()      the open groups and their load; with parameters=True also their requests
    """

    def workers(self) -> None:
        """Prints the live workers with their labels and slots."""
        rows = []
        workers.sync_workers()
        for load in selectors.live_workers():
            worker = load.worker
            labels = " ".join(f"{label}={value}" for label, value in sorted(worker.labels.items()))
            rows.append(
                (worker.name, worker.status, worker.machine, worker.cores, f"{load.used_slots}/{worker.slots}", labels)
            )
        _print(("Worker", "Status", "Machine", "Cores", "Slots", "Labels"), rows)

    def clients(self) -> None:
        """Prints the clients of the open groups with their requests and failures so far."""
        rows = []
        for group in selectors.open_groups():
            workers = selectors.workers_of_clients(group)
            for info in ClientGroup([group.id]).info():
                worker = workers.get(int(info.client_id.rpartition(".")[2])) or ""
                rows.append((info.client_id, group.workload.service, worker, info.requests, info.failures))
        _print(("Client", "Service", "Worker", "Requests", "Failures"), rows)

    def info(self, parameters: bool = False) -> None:
        """Prints the open client groups with their load."""
        rows = []
        for group in selectors.open_groups():
            row = [
                group.id,
                group.workload.service,
                group.total_clients,
                selectors.doing(group),
                group.interactive_part.creator,
            ]
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
