"""The rows of workers, updated from the registry that the workers' agents keep in Redis, and the choice by labels."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from celery import Celery
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from experiments.models import Shard, Worker, WorkerStatus
from experiments.services.broker import as_text, broker_now_ns, to_datetime
from loadgen.broker.options import celery_options
from loadgen.protocol.codec import MessageError, from_json
from loadgen.protocol.keys import WORKER_TTL_S, WORKERS_KEY, label_queue, worker_key
from loadgen.protocol.messages import WorkerInfo
from routing.errors import Unavailable
from routing.redis import redis_client

log = logging.getLogger(__name__)

# A heartbeat or a lease is overdue when the next one should have come. It counts as missed when checks have found it
# overdue for MISSED, the last check finds it expired, and no two checks were further apart than LONGEST_GAP.
OVERDUE_NS = 3_000_000_000
MISSED = timedelta(seconds=2.5)
# With MISSED as long as a lease: a step of the broker's clock expires leases whose holders may send for so long yet.
AFTER_GAP = timedelta(seconds=WORKER_TTL_S) - MISSED
LONGEST_GAP = timedelta(seconds=2.5)
FRESH_S = 2 * WORKER_TTL_S


class NoMatchingWorkers(Unavailable):
    """No live worker has the required labels; the message names the label, or states that no worker is running."""


def matching_workers(labels: dict[str, str], live: Sequence[Worker] | None = None) -> list[Worker]:
    """Those of the live workers that have all `labels`; `live` are all live workers, if the caller has read them.

    Raises:
        NoMatchingWorkers
    """
    live = list(Worker.objects.ready()) if live is None else live
    if not live:
        raise NoMatchingWorkers("no worker is running: start one with `bin/run worker`")
    for label, value in labels.items():
        if not any(worker.labels.get(label) == value for worker in live):
            known = sorted({worker.labels[label] for worker in live if label in worker.labels})
            there = (
                f"there are workers with galileo_{label} = {', '.join(known)}" if known else "no worker has this label"
            )
            raise NoMatchingWorkers(f"no live worker has the label galileo_{label}={value} ({there})")
    matching = with_labels(live, labels)
    if not matching:
        asked = ", ".join(f"galileo_{label}={value}" for label, value in labels.items())
        raise NoMatchingWorkers(f"no live worker has all of the labels {asked}")
    return matching


def with_labels(workers: Sequence[Worker], labels: dict[str, str]) -> list[Worker]:
    """Those of the workers that have all `labels`."""
    return [worker for worker in workers if labels.items() <= worker.labels.items()]


def sync_workers() -> None:
    """Upserts every registered worker, and marks it LOST when its heartbeat is missed, or GONE when it has signed off.

    Checks must miss the heartbeat for a while without a gap, on a broker that has been up for longer than the TTL:
    after an outage of the broker or of the network, the agents need time to return.
    """
    redis = redis_client()
    now_ns = broker_now_ns()
    names = sorted(as_text(name) for name in redis.smembers(WORKERS_KEY))
    heartbeats = dict(zip(names, redis.mget([worker_key(name) for name in names]) if names else [], strict=True))
    taken: dict[str, str] = {}
    overdue: set[str] = set()
    from_future: set[str] = set()
    for name, heartbeat in heartbeats.items():
        if heartbeat is None:
            continue
        # The keys of some databases are case-insensitive, so no database may hold both.
        if (other := taken.setdefault(name.lower(), name)) != name:
            log.warning("worker %s is ignored: its name differs from that of %s only in case", name, other)
            continue
        try:
            info = from_json(WorkerInfo, heartbeat)
            # One from the future is older than a step of the broker's clock: it will not expire for long, and proves
            # nothing. A live worker writes the next one soon.
            if info.heartbeat_broker_ns - now_ns > OVERDUE_NS:
                from_future.add(name)
                continue
            with transaction.atomic():
                _upsert(info)
            if now_ns - info.heartbeat_broker_ns > OVERDUE_NS:
                overdue.add(name)
        except (MessageError, DatabaseError) as error:
            log.warning("worker %s: its registration cannot be read or stored: %s", name, error)
    for worker in Worker.objects.live():
        row = Worker.objects.filter(id=worker.id, instance=worker.instance)
        if heartbeats.get(worker.name) is None or worker.name in from_future:
            if is_missed_for_good(row, worker):
                _leave(worker, WorkerStatus.LOST if worker.name in heartbeats else WorkerStatus.GONE)
        elif worker.name in overdue:
            note_missed(row, worker)
        elif worker.missed_since is not None:
            row.update(missed_since=None)


def note_missed(row: QuerySet[Any], known: Worker | Shard, *, expired: bool = False) -> timedelta:
    """Notes that a check found the heartbeat or lease of `row` overdue; returns for how long all checks have.

    The time restarts after a gap between checks (this process or the broker was away); when the heartbeat or lease
    expired in the gap, it restarts AFTER_GAP later, as live workers need a moment to return after an outage.
    """
    now = timezone.now()
    since, last = known.missed_since, known.missed_at
    # A last check in the future: this process's clock was set back.
    if since is None or last is None or not timedelta(0) <= now - last <= LONGEST_GAP:
        since = now + AFTER_GAP if expired else now
    row.update(missed_since=since, missed_at=now)
    return now - since


def is_missed_for_good(row: QuerySet[Any], known: Worker | Shard) -> bool:
    """As `note_missed` for an expired heartbeat or lease; returns whether its worker or shard is lost."""
    return note_missed(row, known, expired=True) >= MISSED and not broker_is_fresh()


def broker_is_fresh() -> bool:
    """Whether the broker started so recently that a missing heartbeat or lease proves nothing."""
    server = redis_client().info("server")
    return broker_age.is_fresh(str(server["run_id"]), int(server["uptime_in_seconds"]))


class BrokerAge:
    """How long the broker has been up. Its own count is one of wall time: after its clock was set back it is too
    small, maybe negative, for long. So a broker that this process has known for long enough is not fresh."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._run_id = ""
        self._known_since_s = 0.0

    def is_fresh(self, run_id: str, uptime_s: int) -> bool:
        """Returns whether the broker is fresh; `run_id` names this start of it."""
        now_s = self._monotonic_s()
        if run_id != self._run_id:
            self._run_id, self._known_since_s = run_id, now_s
        return uptime_s <= FRESH_S and now_s - self._known_since_s <= FRESH_S


broker_age = BrokerAge()


def _upsert(info: WorkerInfo) -> None:
    same = (
        "name", "instance", "labels", "slots", "cores", "memory_bytes", "machine", "hostname", "versions",
        "spool_bytes",
    )  # fmt: skip
    Worker.objects.update_or_create(
        name__iexact=info.name,
        defaults={
            **{name: getattr(info, name) for name in same},
            "status": WorkerStatus.DRAINING if info.status == "draining" else WorkerStatus.READY,
            "started_at": to_datetime(info.started_broker_ns),
            "heartbeat_at": to_datetime(info.heartbeat_broker_ns),
            "clock_offset_ns": info.clock.offset_ns,
            "clock_uncertainty_ns": info.clock.uncertainty_ns,
        },
    )


def _leave(worker: Worker, status: str) -> None:
    # Orders in its queue must not run beside their next attempts.
    redis_client().delete(label_queue("worker_name", worker.name))
    if Worker.objects.filter(id=worker.id, instance=worker.instance, status=worker.status).update(status=status):
        log.warning("worker %s is %s", worker.name, status.lower())


def ping(timeout_s: float) -> dict[str, float | None]:
    """Seconds until each live worker's main process answered, through the broker and back, by the worker's name.

    None: no answer within the time-out.

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
