"""Workers, brought up to date from the registry that their agents keep in Redis."""

import logging

from experiments.models import Worker
from experiments.services.clock import to_datetime
from loadgen.messages import WORKER_TTL_S, WORKERS_KEY, MessageError, WorkerInfo, from_json, worker_key
from routing.connection import redis_client

log = logging.getLogger(__name__)

LIVE = (Worker.Status.READY, Worker.Status.DRAINING)


def sync_workers() -> None:
    """Upserts every registered worker, and marks those LOST whose heartbeat is gone.

    Two looks in a row must miss the heartbeat, and the broker must have been up for longer than its TTL: after an
    outage of the broker the agents come back first.
    """
    redis = redis_client()
    names = sorted(as_text(name) for name in redis.smembers(WORKERS_KEY))
    heartbeats = dict(zip(names, redis.mget([worker_key(name) for name in names]) if names else [], strict=True))
    taken: dict[str, str] = {}
    for name, heartbeat in heartbeats.items():
        if heartbeat is None:
            continue
        # Some databases' keys do not tell case apart, so no database may hold both.
        if (other := taken.setdefault(name.lower(), name)) != name:
            log.warning("worker %s is left out: its name differs from that of %s only in case", name, other)
            continue
        try:
            _upsert(from_json(WorkerInfo, heartbeat))
        except MessageError as error:
            log.warning("worker %s: its registration cannot be read: %s", name, error)
    for worker in Worker.objects.filter(status__in=LIVE):
        if heartbeats.get(worker.name) is not None:
            continue
        if worker.name not in heartbeats:
            _leave(worker, Worker.Status.GONE)
        elif not worker.missed:
            Worker.objects.filter(id=worker.id, instance=worker.instance).update(missed=True)
        elif not broker_is_fresh():
            _leave(worker, Worker.Status.LOST)


def broker_is_fresh() -> bool:
    """Whether the broker was started so lately that a missing heartbeat or lease means nothing yet."""
    return int(redis_client().info("server")["uptime_in_seconds"]) <= 2 * WORKER_TTL_S


def _upsert(info: WorkerInfo) -> None:
    Worker.objects.update_or_create(
        name__iexact=info.name,
        defaults={
            "name": info.name,
            "status": Worker.Status.DRAINING if info.status == "draining" else Worker.Status.READY,
            "missed": False,
            "instance": info.instance,
            "labels": info.labels,
            "slots": info.slots,
            "cores": info.cores,
            "memory_bytes": info.memory_bytes,
            "machine": info.machine,
            "hostname": info.hostname,
            "versions": info.versions,
            "started": to_datetime(info.started_broker_ns),
            "heartbeat": to_datetime(info.heartbeat_broker_ns),
            "clock_offset_ns": info.clock.offset_ns,
            "clock_uncertainty_ns": info.clock.uncertainty_ns,
            "spool_bytes": info.spool_bytes,
        },
    )


def _leave(worker: Worker, status: str) -> None:
    if Worker.objects.filter(id=worker.id, instance=worker.instance, status=worker.status).update(status=status):
        log.warning("worker %s is %s", worker.name, status.lower())


def as_text(value: bytes | str) -> str:
    """What a client answers, with `decode_responses` or without."""
    return value.decode() if isinstance(value, bytes) else value
