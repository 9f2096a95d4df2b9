"""Placement: which clients of a workload each of its shards runs, and, by policy `balanced`, on which live worker.

With policy `queue` the worker is unknown until one has taken the shard's order (queue_orders.py).

Shards are not bound to cores. The kernel spreads busy processes over the cores by itself, and moves one away from
whatever else turns up there; a bound one would have to wait, on a device whose other work we do not know.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, QuerySet

from experiments.models import Shard, Worker, Workload
from experiments.plans.workload import QUEUE
from loadgen.protocol.enums import LoadModel
from routing.errors import Unavailable

Ranges = list[list[int]]

# The rate of one shard, which has one core at most, above which `auto` gives a worker another one: well below the
# capacity of a core with all options on, so that it keeps its schedule in bursts and beside a client app, too.
SHARD_RATE_RPS = 20_000


class NoMatchingWorkers(Unavailable):
    """No live worker carries the asked labels; the message names the label, or says that there is no worker at all."""


class NoFreeSlot(Unavailable):
    """Every matching worker is full; the message names who holds the slots."""


@dataclass(frozen=True)
class Share:
    """A shard's clients: (start, stop, step) ranges of indexes. `worker` None: any worker with a free slot."""

    worker: Worker | None
    clients: Ranges


def matching_workers(labels: dict[str, str]) -> list[Worker]:
    """Live workers that carry all `labels`.

    Raises:
        NoMatchingWorkers: naming the first label that no live worker carries, or the combination.
    """
    live = list(Worker.objects.ready())
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


def shares_of(workload: Workload, clients: int) -> list[Share]:
    """Divides so many clients of a workload by its policy.

    Raises:
        NoMatchingWorkers, NoFreeSlot: not by policy `queue`, where workers may come later.
    """
    if workload.placement == QUEUE:
        return _dealt_out(clients, [None] * min(clients, workload.shards or 1))
    return place(
        workload.worker_labels,
        clients,
        shards_per_worker=workload.shards_per_worker,
        rate_rps=_asked_rate_rps(workload),
    )


def place(
    labels: dict[str, str],
    clients: int,
    *,
    shards_per_worker: int | None = None,
    rate_rps: float = 0.0,
    avoid: Worker | None = None,
) -> list[Share]:
    """Divides a workload's clients over the matching workers that have a free slot, least loaded first.

    The shares are dealt out over the workers in turn, so that few clients are spread, too.

    Args:
        shards_per_worker: on each worker, as far as it has free slots; None: one, and more for a high rate.
        rate_rps: the highest rate of the workload, all shards together; 0 if unknown.
        avoid: comes last.

    Raises:
        NoMatchingWorkers, NoFreeSlot
    """
    matching = matching_workers(labels)
    active = Shard.objects.not_ended()
    used = dict(active.values_list("worker").annotate(Count("id")).values_list("worker", "id__count"))
    free = [worker for worker in matching if used.get(worker.id, 0) < worker.slots]
    if not free:
        holders = _holders(active.filter(worker__in=matching))
        raise NoFreeSlot(f"no free slot on {', '.join(worker.name for worker in matching)}; held by {holders}")
    load = _clients_by_worker()
    free.sort(key=lambda worker: (worker == avoid, load.get(worker.id, 0), worker.name))
    slots = [worker.slots - used.get(worker.id, 0) for worker in free]
    if shards_per_worker is None:
        cores = [worker.cores - used.get(worker.id, 0) for worker in free]
        rooms = [max(1, min(room)) for room in zip(slots, cores, strict=True)]
        shards_per_worker = _shards_for(rate_rps, rooms)
    else:
        rooms = slots
    rounds = range(min(shards_per_worker, max(rooms)))
    shards = [worker for turn in rounds for worker, room in zip(free, rooms, strict=True) if room > turn][:clients]
    return _dealt_out(clients, shards)


def _asked_rate_rps(workload: Workload) -> float:
    """The highest rate of the plan; 0 where it is unknown: the closed model's depends on the target, the interactive
    one's on its user."""
    if workload.spec["model"] != LoadModel.OPEN:
        return 0.0
    return max(float(rate_rps) for _, rate_rps in workload.spec["schedule"])


def _dealt_out(clients: int, shards: Sequence[Worker | None]) -> list[Share]:
    """Clients in turn (client i to share i mod M), so that each share of a constant load is even."""
    return [Share(worker, [[number, clients, len(shards)]]) for number, worker in enumerate(shards)]


def _shards_for(rate_rps: float, rooms: list[int]) -> int:
    """The least number of shards on each worker that makes enough of them; `rooms` are the workers' limits."""
    needed = math.ceil(rate_rps / SHARD_RATE_RPS)
    most = max(rooms)
    return next((each for each in range(1, most) if sum(min(each, room) for room in rooms) >= needed), most)


def _clients_by_worker() -> dict[int, int]:
    """The number of clients of the shards of each worker, by the worker's id."""
    counts: Counter[int] = Counter()
    for worker_id, clients in Shard.objects.not_ended().exclude(worker=None).values_list("worker", "clients"):
        counts[worker_id] += sum(len(range(*bounds)) for bounds in clients)
    return counts


def _holders(shards: QuerySet[Shard]) -> str:
    groups = sorted(set(shards.values_list("group_id", flat=True)))
    return ", ".join(groups[:5]) + (f" and {len(groups) - 5} more" if len(groups) > 5 else "")
