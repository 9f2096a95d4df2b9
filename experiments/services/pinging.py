"""Round trips to the workers."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from django.conf import settings

from experiments import selectors
from loadgen.broker.options import celery_options
from routing.redis import redis_client


def ping(timeout_s: float) -> dict[str, float | None]:
    """Seconds until each live worker's main process answered, through the broker and back, by the worker's name.

    None: it did not answer within the time-out.

    Raises:
        redis.RedisError, kombu.exceptions.OperationalError: the broker does not answer.
    """
    names = {f"{load.worker.name}@{load.worker.hostname}": load.worker.name for load in selectors.live_workers()}
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
