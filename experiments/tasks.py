"""Celery tasks of the controller, thin over services and ingest."""

import logging

from celery import shared_task
from redis.exceptions import RedisError

from experiments.ingest.ingest import ingest
from experiments.services.reconcile import reconcile
from loadgen.protocol import keys

log = logging.getLogger(__name__)


@shared_task(name=keys.TASK_RECONCILE)
def reconcile_experiments() -> None:
    try:
        reconcile()
    except RedisError as error:
        log.warning("reconciliation waits for the broker: %s", error)


@shared_task(name=keys.TASK_INGEST_BATCH)
def ingest_batch(payload: bytes) -> None:
    ingest(payload)
