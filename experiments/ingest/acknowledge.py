"""What ingest tells through Redis, after its commit: acknowledgements, progress, and counts of what it refused."""

from __future__ import annotations

import logging

import redis
from django.conf import settings

from loadgen.messages import BatchHeader, ack_key, batch_id, ingest_progress_key, ingest_queue
from routing.connection import redis_client

log = logging.getLogger(__name__)

ORPHANS_KEY = "galileo:ingest:orphans"
MALFORMED_KEY = "galileo:ingest:malformed"

# Of a worker that is gone, nobody takes the acknowledgements.
MAX_ACKS = 10_000
ACKS_TTL_S = 3600


def acknowledge(header: BatchHeader, *, orphan: bool) -> bool:
    """Tells the worker that a batch needs no sending any more; returns whether more batches wait in its queue.

    A broker that is away is logged, not raised: the batch is stored, the agent sends it again, and the duplicate is
    acknowledged.
    """
    key = ack_key(header.worker)
    queue = ingest_queue(header.shard_id, settings.GALILEO_INGEST_QUEUES)
    name = batch_id(header.shard_id, header.attempt, header.number)
    try:
        with redis_client().pipeline(transaction=False) as pipeline:
            pipeline.rpush(key, name)
            pipeline.ltrim(key, -MAX_ACKS, -1)
            pipeline.expire(key, ACKS_TTL_S)
            pipeline.incr(ingest_progress_key(queue))
            if orphan:
                pipeline.incr(ORPHANS_KEY)
            pipeline.llen(queue)
            return bool(pipeline.execute()[-1])
    except redis.RedisError as error:
        log.warning("batch %s is stored, but could not be acknowledged: %s", name, error)
        return False


def count_malformed() -> None:
    try:
        redis_client().incr(MALFORMED_KEY)
    except redis.RedisError as error:
        log.warning("a malformed batch could not be counted: %s", error)
