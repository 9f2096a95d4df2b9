"""Round trips to the workers."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from django.conf import settings

from experiments import selectors
from loadgen.broker import celery_options


def ping(timeout: float) -> dict[str, float]:
    """Seconds until each live worker's main process answered, through the broker and back, by the worker's name."""
    names = {f"{load.worker.name}@{load.worker.hostname}": load.worker.name for load in selectors.live_workers()}
    app = Celery("galileo-ping", set_as_current=False)
    app.conf.update(celery_options(settings.SITE.redis))
    answered: dict[str, float] = {}
    sent_s = time.monotonic()

    def note(reply: dict[str, Any]) -> None:
        for node in reply:
            if node in names:
                answered[names[node]] = time.monotonic() - sent_s

    try:
        if names:
            app.control.broadcast(
                "ping", destination=list(names), reply=True, timeout=timeout, limit=len(names), callback=note
            )
    finally:
        app.close()
    return dict(sorted(answered.items()))
