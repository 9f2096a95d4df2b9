"""What ingest tells through Redis, after its commit: answers to the agents, progress, and counts of what it refused."""

from __future__ import annotations

import logging

import redis
from django.conf import settings
from redis.client import Pipeline

from experiments.ingest.origin import Origin
from loadgen.protocol.keys import ack_key, ingest_progress_key, ingest_queue
from routing.redis import redis_client

log = logging.getLogger(__name__)

ORPHANS_KEY = "galileo:ingest:orphans"
MALFORMED_KEY = "galileo:ingest:malformed"

# Of a worker that is gone, nobody takes the answers.
MAX_ACKS = 10_000
ACKS_TTL_S = 3600
MAX_REFUSAL_LENGTH = 300


def acknowledge(origin: Origin, *, orphan: bool) -> None:
    """Tells the worker that a batch needs no sending any more.

    A broker that is away is logged, not raised: the batch is stored, the agent sends it again, and the duplicate is
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


def refuse(origin: Origin | None, why: str) -> None:
    """Counts what is no batch, and tells the worker that it will never be taken, where its origin is known.

    A forged origin harms the worker that it names, at most: its agent looks for the file in its own spool only.
    """
    try:
        with redis_client().pipeline(transaction=False) as pipeline:
            pipeline.incr(MALFORMED_KEY)
            if origin is not None:
                _answer(pipeline, origin, f"{origin.batch} {why[:MAX_REFUSAL_LENGTH]}")
            pipeline.execute()
    except redis.RedisError as error:
        log.warning("a malformed batch could not be counted: %s", error)


def _answer(pipeline: Pipeline, origin: Origin, answer: str) -> None:
    key = ack_key(origin.worker)
    pipeline.rpush(key, answer)
    pipeline.ltrim(key, -MAX_ACKS, -1)
    pipeline.expire(key, ACKS_TTL_S)
    pipeline.incr(ingest_progress_key(ingest_queue(origin.shard_id, settings.GALILEO_INGEST_QUEUES)))
