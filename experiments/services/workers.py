"""Workers, brought up to date from the registry that their agents keep in Redis."""

import logging
import time
from datetime import timedelta
from typing import Any

from celery import Celery
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from experiments.models import Shard, Worker, WorkerStatus
from experiments.services.broker import broker_now_ns, to_datetime
from loadgen.broker.options import celery_options
from loadgen.protocol.codec import MessageError, from_json
from loadgen.protocol.keys import WORKER_TTL_S, WORKERS_KEY, label_queue, worker_key
from loadgen.protocol.messages import WorkerInfo
from routing.redis import redis_client

log = logging.getLogger(__name__)

# A sign of life is overdue when the next one should have come. Looks must find it so for a while, the last of them find
# it expired, and no two of them may lie far apart.
OVERDUE_NS = 3_000_000_000
MISSED = timedelta(seconds=2.5)
AFTER_GAP = timedelta(seconds=2.5)
LONGEST_GAP = timedelta(seconds=2.5)


def sync_workers() -> None:
    """Upserts every registered worker, and marks those LOST whose heartbeat is gone, or GONE that said goodbye.

    The heartbeat must be missed for a while of continuous looks, by a broker that has been up for longer than its TTL:
    after an outage of the broker, or of the way to it, the agents come back first.
    """
    redis = redis_client()
    now_ns = broker_now_ns()
    names = sorted(as_text(name) for name in redis.smembers(WORKERS_KEY))
    heartbeats = dict(zip(names, redis.mget([worker_key(name) for name in names]) if names else [], strict=True))
    taken: dict[str, str] = {}
    overdue: set[str] = set()
    for name, heartbeat in heartbeats.items():
        if heartbeat is None:
            continue
        # Some databases' keys do not tell case apart, so no database may hold both.
        if (other := taken.setdefault(name.lower(), name)) != name:
            log.warning("worker %s is left out: its name differs from that of %s only in case", name, other)
            continue
        try:
            info = from_json(WorkerInfo, heartbeat)
            with transaction.atomic():
                _upsert(info)
            if now_ns - info.heartbeat_broker_ns > OVERDUE_NS:
                overdue.add(name)
        except (MessageError, DatabaseError) as error:
            log.warning("worker %s: its registration cannot be taken: %s", name, error)
    for worker in Worker.objects.live():
        row = Worker.objects.filter(id=worker.id, instance=worker.instance)
        if heartbeats.get(worker.name) is None:
            if is_missed_for_good(row, worker):
                _leave(worker, WorkerStatus.LOST if worker.name in heartbeats else WorkerStatus.GONE)
        elif worker.name in overdue:
            note_missed(row, worker)
        elif worker.missed_since is not None:
            row.update(missed_since=None)


def note_missed(row: QuerySet[Any], known: Worker | Shard, *, expired: bool = False) -> timedelta:
    """Notes that a look at `row` found its sign of life overdue; how long looks have found it so, without a gap.

    The wait restarts after a gap between checks (this process or the broker was away), and later when the sign has
    expired unseen: after an outage, live workers need a moment to return.
    """
    now = timezone.now()
    since, last = known.missed_since, known.missed_at
    if since is None or last is None or now - last > LONGEST_GAP:
        since = now + AFTER_GAP if expired else now
    row.update(missed_since=since, missed_at=now)
    return now - since


def is_missed_for_good(row: QuerySet[Any], known: Worker | Shard) -> bool:
    """As `note_missed`, when the sign of life has expired: whether there will be no other."""
    return note_missed(row, known, expired=True) >= MISSED and not broker_is_fresh()


def broker_is_fresh() -> bool:
    """Whether the broker was started so lately that a missing heartbeat or lease means nothing yet."""
    return int(redis_client().info("server")["uptime_in_seconds"]) <= 2 * WORKER_TTL_S


def _upsert(info: WorkerInfo) -> None:
    Worker.objects.update_or_create(
        name__iexact=info.name,
        defaults={
            "name": info.name,
            "status": WorkerStatus.DRAINING if info.status == "draining" else WorkerStatus.READY,
            "instance": info.instance,
            "labels": info.labels,
            "slots": info.slots,
            "cores": info.cores,
            "memory_bytes": info.memory_bytes,
            "machine": info.machine,
            "hostname": info.hostname,
            "versions": info.versions,
            "started_at": to_datetime(info.started_broker_ns),
            "heartbeat_at": to_datetime(info.heartbeat_broker_ns),
            "clock_offset_ns": info.clock.offset_ns,
            "clock_uncertainty_ns": info.clock.uncertainty_ns,
            "spool_bytes": info.spool_bytes,
        },
    )


def _leave(worker: Worker, status: str) -> None:
    # Orders in its queue must not run beside those that are placed again.
    redis_client().delete(label_queue("worker_name", worker.name))
    if Worker.objects.filter(id=worker.id, instance=worker.instance, status=worker.status).update(status=status):
        log.warning("worker %s is %s", worker.name, status.lower())


def as_text(value: bytes | str) -> str:
    """A reply of Redis, with `decode_responses` or without."""
    return value.decode() if isinstance(value, bytes) else value


def ping(timeout_s: float) -> dict[str, float | None]:
    """Seconds until each live worker's main process answered, through the broker and back, by the worker's name.

    None: it did not answer within the time-out.

    Raises:
        redis.RedisError, kombu.exceptions.OperationalError: the broker does not answer.
    """
    names = {f"{worker.name}@{worker.hostname}": worker.name for worker in Worker.objects.live()}
    redis_client().ping()  # where the broker is away, Celery would try again for 6 s
    app = Celery("galileo-ping", set_as_current=False)
    app.conf.update(celery_options(settings.SITE.redis))
    answered: dict[str, float | None] = dict.fromkeys(sorted(names.values()))
    sent_s = time.monotonic()

    def note(reply: dict[str, Any]) -> None:
        for node in reply:
            if node in names:
                answered[names[node]] = time.monotonic() - sent_s

    try:
        if names:
            app.control.broadcast(
                "ping", destination=list(names), reply=True, timeout=timeout_s, limit=len(names), callback=note
            )
    finally:
        app.close()
    return answered
