"""ingest: stores one trace batch, and answers the worker that sent it. The only entry point of this package."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
from django.conf import settings
from django.db import connection
from redis.client import Pipeline

from experiments.ingest.received import Origin, find_origin, read
from experiments.ingest.store import mark_summary_stale, store
from loadgen.protocol.codec import MessageError
from loadgen.protocol.keys import ack_key, ingest_progress_key, ingest_queue
from routing.redis import redis_client

log = logging.getLogger(__name__)

ORPHANS_KEY = "galileo:ingest:orphans"
MALFORMED_KEY = "galileo:ingest:malformed"

# Bounds for the answers to a worker that never reads them.
MAX_ANSWERS = 10_000
ANSWERS_TTL_S = 3600
MAX_REFUSAL_LENGTH = 300

# As a share of the time that the batch took, so that it suits small batches and slow disks, too. While batches of 6,000
# rows were ingested without a break, a quarter kept 99 % of small writes below 0.35 s, a tenth below 0.65 s, and
# without a pause they took 1 to 3 s.
PAUSE_SHARE = 0.25
# Waiting writers try again at least this often.
MAX_PAUSE_S = 0.1


@contextmanager
def pause_for_other_writers(
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
) -> Iterator[None]:
    """Pauses after the ingest of a batch on SQLite, so that other processes can write between two batches.

    SQLite has one lock for all writers, and no queue for it: a writer that finds it taken tries again after some
    milliseconds, later after 0.1 s. Without the pause, the next batch has nearly always taken the lock by then, and
    small writes such as an experiment's status wait for seconds. Other databases lock rows.
    """
    started_s = clock()
    yield
    if connection.vendor == "sqlite":
        sleep(min(PAUSE_SHARE * (clock() - started_s), MAX_PAUSE_S))


@pause_for_other_writers()
def ingest(payload: bytes) -> None:
    """Stores a batch and acknowledges it; a duplicate is only acknowledged again.

    A malformed batch is logged, counted and refused. Database errors propagate: nothing was acknowledged then, and the
    agent sends the batch again.
    """
    try:
        batch = read(payload)
    except MessageError as error:
        log.error("a trace batch was refused: %s", error)
        _refuse(find_origin(payload), str(error))
        return
    stored = store(batch)
    if not stored.known:
        log.warning("batch %s belongs to no experiment or group of this database", batch.header.id)
    elif stored.experiment_id is not None:
        # Before the acknowledgement, and for a duplicate, too: the process that stored it may have been killed here.
        mark_summary_stale(stored.experiment_id)
    _acknowledge(batch.origin, orphan=not stored.known)


def _acknowledge(origin: Origin, *, orphan: bool) -> None:
    """Tells the worker that a batch need not be sent again.

    Errors of Redis are logged, not raised: the batch is stored, the agent sends it again, and the duplicate is
    acknowledged.
    """
    try:
        with redis_client().pipeline(transaction=False) as pipeline:
            _answer(pipeline, origin, origin.batch)
            if orphan:
                pipeline.incr(ORPHANS_KEY)
            pipeline.execute()
    except redis.RedisError as error:
        log.warning("batch %s is stored, but could not be acknowledged: %s", origin.batch, error)


def _refuse(origin: Origin | None, reason: str) -> None:
    """Counts a malformed batch, and, if its origin is known, tells the worker that it will never be accepted.

    A forged origin can only harm the worker that it names, whose agent looks for the file in its own spool only.
    """
    try:
        with redis_client().pipeline(transaction=False) as pipeline:
            pipeline.incr(MALFORMED_KEY)
            if origin is not None:
                _answer(pipeline, origin, f"{origin.batch} {reason[:MAX_REFUSAL_LENGTH]}")
            pipeline.execute()
    except redis.RedisError as error:
        log.warning("a malformed batch could not be counted: %s", error)


def _answer(pipeline: Pipeline, origin: Origin, answer: str) -> None:
    key = ack_key(origin.worker)
    pipeline.rpush(key, answer)
    pipeline.ltrim(key, -MAX_ANSWERS, -1)
    pipeline.expire(key, ANSWERS_TTL_S)
    pipeline.incr(ingest_progress_key(ingest_queue(origin.shard_id, settings.GALILEO_INGEST_QUEUES)))
