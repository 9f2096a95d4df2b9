"""Placement: the clients of each shard of a workload, and, with policy `balanced`, its live worker.

With policy `queue` the worker is unknown until one has taken the shard's order (`may_be_taken`, `note_taker`).

Shards are not bound to cores. The kernel spreads busy processes over the cores, and moves them away from other load; a
bound process would have to wait, on a device whose other load is unknown.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet

from experiments.models import Shard, ShardStatus, Worker, Workload
from experiments.plans.workload import QUEUE, SharedKeys
from experiments.services.workers import NoMatchingWorkers, matching_workers, note_missed, with_labels
from loadgen.protocol.enums import LoadModel
from routing.errors import Unavailable
from routing.redis import redis_client

Ranges = list[list[int]]

# The rate of one shard, which has one core at most, above which `auto` gives a worker another one: well below the
# capacity of a core with all options on, so that it keeps its schedule in bursts and beside a client app, too.
SHARD_RATE_RPS = 20_000
# A worker that takes an order starts a process for it, which then writes its status.
_TAKER_IS_SILENT = timedelta(seconds=10)


class TooFewSlots(NoMatchingWorkers):
    """The matching workers have too few slots for the plan, even without other load; the message has the figures."""


class NoFreeSlot(Unavailable):
    """Every matching worker is full; the message names the groups that hold the slots."""


@dataclass(frozen=True)
class Share:
    """A shard's clients: (start, stop, step) ranges of indexes. `worker` None: any worker with a free slot."""

    worker: Worker | None
    clients: Ranges


def check_slots(workloads: Sequence[SharedKeys | Workload]) -> None:
    """Checks that the workers could run these workloads together, if no other load had a slot; each needs at least one.

    With policy `queue`, workers may join later, so that such workloads are not checked.

    Raises:
        NoMatchingWorkers: no live worker has a workload's labels.
        TooFewSlots
    """
    balanced = [workload for workload in workloads if workload.placement != QUEUE]
    live = list(Worker.objects.ready()) if balanced else []
    matching = [matching_workers(workload.worker_labels, live) for workload in balanced]
    full = _assign([_ids(workers) for workers in matching], {worker.id: worker.slots for worker in live}).full
    if not full:
        return
    bound = sum(set(_ids(workers)) <= full for workers in matching)
    names = ", ".join(worker.name for worker in live if worker.id in full)
    slots = sum(worker.slots for worker in live if worker.id in full)
    raise TooFewSlots(
        f"{bound} of the plan's {len(workloads)} workloads can run on {names} only, and need at least {bound} slots, "
        f"one each, but all matching workers together have {slots}: use fewer workloads, start more workers, or raise "
        "galileo_slots"
    )


@dataclass
class _Assignment:
    """Which workloads, by index, have a slot of a worker, by the worker's id.

    `full` is empty when each workload has a slot; else, for the first that has none, its workers and those to which the
    workloads in its way could have moved: all of them are full.
    """

    holders: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    full: set[int] = field(default_factory=set)


def _assign(workers: Sequence[list[int]], slots: Mapping[int, int]) -> _Assignment:
    """Assigns a slot of one of its workers to each workload, the emptiest first, and moves others for one that has no
    choice (augmenting paths in a bipartite graph; the cost grows with workloads² × workers at worst).

    Args:
        workers: of each workload, the ids of the workers that it may use.
        slots: the number of slots of each worker, by id.
    """
    found = _Assignment()

    def find(workload: int, seen: set[int]) -> bool:
        unseen = [worker for worker in workers[workload] if worker not in seen]
        seen.update(unseen)
        unseen.sort(key=lambda worker: len(found.holders[worker]) - slots[worker])
        for worker in unseen:
            if len(found.holders[worker]) < slots[worker]:
                found.holders[worker].append(workload)
                return True
        for worker in unseen:
            for other in list(found.holders[worker]):
                if find(other, seen):
                    found.holders[worker].remove(other)
                    found.holders[worker].append(workload)
                    return True
        return False

    for workload in range(len(workers)):
        seen: set[int] = set()
        if not find(workload, seen) and not found.full:
            found.full = seen
    return found


def _ids(workers: Sequence[Worker]) -> list[int]:
    return [worker.id for worker in workers]


def workload_row(definition: SharedKeys | Workload, **fields: Any) -> Workload:
    """An unsaved row with the service, the clients and the placement of `definition`, and these further fields."""
    copied = ("service", "clients", "worker_labels", "placement", "shards_per_worker", "shards")
    return Workload(**{name: getattr(definition, name) for name in copied}, **fields)


def shares_of(workload: Workload, clients: int, later: Sequence[Workload] = ()) -> list[Share]:
    """Divides `clients` of a workload's clients by its policy.

    Args:
        later: the workloads of the same plan that are placed next; a slot is left for each.

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
        later=[each.worker_labels for each in later if each.placement != QUEUE],
        own=_own_shards(workload),
    )


def another_worker(workload: Workload, avoid: Worker | None) -> Worker | None:
    """The worker for one shard of a workload; `avoid` is chosen last. Raises NoMatchingWorkers, NoFreeSlot."""
    return place(workload.worker_labels, 1, avoid=avoid, own=_own_shards(workload))[0].worker


def _own_shards(workload: Workload) -> Q:
    """The condition for the shards of a workload, and of the experiment that it belongs to."""
    own = Q(group__workload=workload.pk)
    return own if workload.experiment_id is None else own | Q(group__experiment=workload.experiment_id)


def place(
    labels: dict[str, str],
    clients: int,
    *,
    shards_per_worker: int | None = None,
    rate_rps: float = 0.0,
    avoid: Worker | None = None,
    later: Sequence[dict[str, str]] = (),
    own: Q | None = None,
) -> list[Share]:
    """Divides a workload's clients over the matching workers that have a free slot, least loaded first.

    Each worker gets a share before any gets its second, so that few clients are spread, too.

    Args:
        shards_per_worker: at most, where a worker has the free slots; None: one, and more for a high rate.
        rate_rps: the highest rate of the workload, all shards together; 0 if unknown.
        avoid: the worker that is used last.
        later: the labels of workloads that are placed next; a slot is left for each as far as there are enough.
        own: the condition for the shards that a message must not name as those of others.

    Raises:
        NoMatchingWorkers, NoFreeSlot
    """
    live = list(Worker.objects.ready())
    matching = matching_workers(labels, live)
    active = Shard.objects.not_ended()
    used = dict(active.values_list("worker").annotate(Count("id")).values_list("worker", "id__count"))
    left = {worker.id: max(0, worker.slots - used.get(worker.id, 0)) for worker in live}
    candidates = [_ids(matching), *(_ids(with_labels(live, wanted)) for wanted in later)]
    for worker_id, holders in _assign(candidates, left).holders.items():
        left[worker_id] -= sum(workload > 0 for workload in holders)  # the first one is placed here
    free = [worker for worker in matching if left[worker.id]]
    if not free:
        names = ", ".join(worker.name for worker in matching)
        raise NoFreeSlot(f"no free slot on {names}; {_holders(active.filter(worker__in=matching), own)}")
    load = _clients_by_worker()
    free.sort(key=lambda worker: (worker == avoid, load.get(worker.id, 0), worker.name))
    slots = [left[worker.id] for worker in free]
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


def _holders(shards: QuerySet[Shard], own: Q | None) -> str:
    """Which groups hold the slots; those of the asking experiment or group are counted and not named."""
    others = shards if own is None else shards.exclude(own)
    groups = sorted(set(others.values_list("group_id", flat=True)))
    mine = 0 if own is None else shards.filter(own).count()
    if not groups:
        return f"all {mine} slots are used by other shards of its own"
    named = ", ".join(groups[:5]) + (f" and {len(groups) - 5} more" if len(groups) > 5 else "")
    return f"held by {named}" + (f", and {mine} by other shards of its own" if mine else "")


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
