"""Orders that wait in a label's queue until some worker takes them (placement `queue`)."""

from __future__ import annotations

from datetime import timedelta

from experiments.models import Shard, ShardStatus, Worker
from experiments.services.workers import note_missed
from routing.redis import redis_client

# A worker that takes an order starts a process for it, which then writes its status.
_TAKER_IS_SILENT = timedelta(seconds=10)


def may_be_taken(shard: Shard) -> bool:
    """Whether the order of a shard that no worker has spoken for may be in its queue, or on its way to a process.

    Its queue has been empty for a while where it may not: the worker that took it has died, or Redis has lost it.
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
    """The worker of this name has taken the shard. One that has not registered yet is noted at a later look."""
    worker = Worker.objects.filter(name=name).first()
    if worker is None:
        return
    fields = {"worker": worker, "worker_instance": worker.instance, "missed_since": None}
    if Shard.objects.attempt_of(shard).filter(worker=None).update(**fields):
        shard.worker, shard.worker_instance, shard.missed_since = worker, worker.instance, None


def unready(shards: list[Shard]) -> str:
    """Which of these shards of a load are not ready, and where they are; "" when all are."""
    waiting = [shard for shard in shards if shard.status != ShardStatus.READY]
    sentences = []
    if slow := [shard.worker.name for shard in waiting if shard.worker]:
        sentences.append(f"{len(slow)} shard(s) on {', '.join(sorted(set(slow)))} did not get ready")
    queues = [str(shard.group.workload.queue) for shard in waiting if shard.worker is None]
    for queue in sorted(set(queues)):
        sentences.append(f"{queues.count(queue)} shard(s) in the queue {queue} were not taken by any worker")
    return ", and ".join(sentences)
