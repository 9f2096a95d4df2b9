"""Placement: the clients of each shard of a workload, and, with policy `balanced`, its live worker.

With policy `queue` the worker is unknown until one has taken the shard's order (`may_be_taken`, `note_taker`).

Shards are not bound to cores. The kernel spreads busy processes over the cores, and moves them away from other load; a
bound process would have to wait, on a device whose other load is unknown.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, QuerySet

from experiments.models import Shard, ShardStatus, Worker, Workload
from experiments.plans.workload import QUEUE, SharedKeys
from experiments.services.workers import note_missed
from loadgen.protocol.enums import LoadModel
from routing.errors import Unavailable
from routing.redis import redis_client

Ranges = list[list[int]]

# The rate of one shard, which has one core at most, above which `auto` gives a worker another one: well below the
# capacity of a core with all options on, so that it keeps its schedule in bursts and beside a client app, too.
SHARD_RATE_RPS = 20_000
# A worker that takes an order starts a process for it, which then writes its status.
_TAKER_IS_SILENT = timedelta(seconds=10)


class NoMatchingWorkers(Unavailable):
    """No live worker has the required labels; the message names the label, or states that no worker is running."""


class NoFreeSlot(Unavailable):
    """Every matching worker is full; the message names the groups that hold the slots."""


@dataclass(frozen=True)
class Share:
    """A shard's clients: (start, stop, step) ranges of indexes. `worker` None: any worker with a free slot."""

    worker: Worker | None
    clients: Ranges


def matching_workers(labels: dict[str, str]) -> list[Worker]:
    """Live workers that have all `labels`.

    Raises:
        NoMatchingWorkers
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
            raise NoMatchingWorkers(f"no live worker has the label galileo_{label}={value} ({there})")
    matching = [worker for worker in live if labels.items() <= worker.labels.items()]
    if not matching:
        asked = ", ".join(f"galileo_{label}={value}" for label, value in labels.items())
        raise NoMatchingWorkers(f"no live worker has all of the labels {asked}")
    return matching


def workload_row(definition: SharedKeys | Workload, **fields: Any) -> Workload:
    """An unsaved row with the service, the clients and the placement of `definition`, and these further fields."""
    copied = ("service", "clients", "worker_labels", "placement", "shards_per_worker", "shards")
    return Workload(**{name: getattr(definition, name) for name in copied}, **fields)


def shares_of(workload: Workload, clients: int) -> list[Share]:
    """Divides `clients` of a workload's clients by its policy.

    Raises:
        NoMatchingWorkers, NoFreeSlot: never with policy `queue`, where workers may join later.
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

    Each worker gets a share before any gets its second, so that few clients are spread, too.

    Args:
        shards_per_worker: at most, where a worker has the free slots; None: one, and more for a high rate.
        rate_rps: the highest rate of the workload, all shards together; 0 if unknown.
        avoid: the worker that is used last.

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
    """The highest rate of the plan; 0 where it is unknown, as in the closed model (it depends on the target) and in the
    interactive one (on its user)."""
    if workload.spec["model"] != LoadModel.OPEN:
        return 0.0
    return max(float(rate_rps) for _, rate_rps in workload.spec["schedule"])


def _dealt_out(clients: int, shards: Sequence[Worker | None]) -> list[Share]:
    """Assigns client i to share i mod M, so that the shares of a constant load are even."""
    return [Share(worker, [[number, clients, len(shards)]]) for number, worker in enumerate(shards)]


def _shards_for(rate_rps: float, rooms: list[int]) -> int:
    """The smallest number of shards per worker that suffices for a rate; `rooms` are the workers' limits."""
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


def may_be_taken(shard: Shard) -> bool:
    """Whether the order of a shard without a worker may still be in its queue, or on its way to a process.

    It is lost when its queue has been empty for a while: the worker that took it has died, or Redis has lost it.
    """
    queue = shard.group.workload.queue
    if shard.worker is not None or queue is None:
        return False
    row = Shard.objects.attempt_of(shard)
    if not redis_client().llen(queue):
        return note_missed(row, shard) < _TAKER_IS_SILENT
    if shard.missed_since is not None:
        row.update(missed_since=None)
    return True


def note_taker(shard: Shard, name: str) -> None:
    """Stores the worker that has taken a shard, once that worker has registered."""
    worker = Worker.objects.filter(name=name).first()
    if worker is None:
        return
    fields = {"worker": worker, "worker_instance": worker.instance, "missed_since": None}
    if Shard.objects.attempt_of(shard).filter(worker=None).update(**fields):
        shard.worker, shard.worker_instance, shard.missed_since = worker, worker.instance, None


def unready(shards: list[Shard]) -> str:
    """A sentence that counts the shards which are not ready, by worker and queue; "" when all are ready."""
    waiting = [shard for shard in shards if shard.status != ShardStatus.READY]
    sentences = []
    if slow := [shard.worker.name for shard in waiting if shard.worker]:
        sentences.append(f"{len(slow)} shard(s) on {', '.join(sorted(set(slow)))} did not get ready")
    queues = [str(shard.group.workload.queue) for shard in waiting if shard.worker is None]
    for queue in sorted(set(queues)):
        sentences.append(f"{queues.count(queue)} shard(s) in the queue {queue} were not taken by any worker")
    return ", and ".join(sentences)
