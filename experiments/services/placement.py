"""Placement `balanced`: which live workers run which clients of a workload."""

from dataclasses import dataclass

from django.db.models import Count, QuerySet

from experiments.models import Client, Shard, Worker

Ranges = list[list[int]]


class NoMatchingWorkers(Exception):
    """No live worker carries the asked labels; the message names the label, or says that there is no worker at all."""


class NoFreeSlot(Exception):
    """Every matching worker is full; the message names who holds the slots."""


@dataclass(frozen=True)
class Share:
    """What one worker runs of a workload: (start, stop, step) ranges of client indexes."""

    worker: Worker
    clients: Ranges


def matching_workers(labels: dict[str, str]) -> list[Worker]:
    """Live workers that carry all `labels`.

    Raises:
        NoMatchingWorkers: naming the first label that no live worker carries, or the combination.
    """
    live = list(Worker.objects.filter(status=Worker.Status.READY))
    if not live:
        raise NoMatchingWorkers("no worker is running: start one with `bin/run worker`")
    for label, value in labels.items():
        if not any(worker.labels.get(label) == value for worker in live):
            known = sorted({worker.labels[label] for worker in live if label in worker.labels})
            there = (
                f"there are workers with galileo_{label} = {', '.join(known)}" if known else "no worker has this label"
            )
            raise NoMatchingWorkers(f"no live worker carries the label galileo_{label}={value} ({there})")
    matching = [worker for worker in live if labels.items() <= worker.labels.items()]
    if not matching:
        asked = ", ".join(f"galileo_{label}={value}" for label, value in labels.items())
        raise NoMatchingWorkers(f"no live worker carries all of the labels {asked}")
    return matching


def place(labels: dict[str, str], clients: int, avoid: Worker | None = None) -> list[Share]:
    """Divides a workload's clients over the matching workers that have a free slot, least loaded first.

    Clients are dealt out in turn (client i to share i mod M), so that each worker's part of a constant load is even.
    `avoid` comes last.

    Raises:
        NoMatchingWorkers, NoFreeSlot
    """
    matching = matching_workers(labels)
    active = Shard.objects.exclude(status__in=Shard.ENDED)
    used = dict(active.values_list("worker").annotate(Count("id")).values_list("worker", "id__count"))
    free = [worker for worker in matching if used.get(worker.id, 0) < worker.slots]
    if not free:
        holders = _holders(active.filter(worker__in=matching))
        raise NoFreeSlot(f"no free slot on {', '.join(worker.name for worker in matching)}; held by {holders}")
    load = _clients_by_worker()
    free.sort(key=lambda worker: (worker == avoid, load.get(worker.id, 0), worker.name))
    shares = min(len(free), clients)
    return [Share(worker, [[number, clients, shares]]) for number, worker in enumerate(free[:shares])]


def _clients_by_worker() -> dict[int, int]:
    active = Client.objects.exclude(shard__status__in=Shard.ENDED).values("shard__worker").annotate(Count("id"))
    return dict(active.values_list("shard__worker", "id__count"))


def _holders(shards: QuerySet[Shard]) -> str:
    groups = sorted(set(shards.values_list("group_id", flat=True)))
    return ", ".join(groups[:5]) + (f" and {len(groups) - 5} more" if len(groups) > 5 else "")
