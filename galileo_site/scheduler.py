"""Scheduler: Celery's beat with its tasks in the database, which continues when the wall clock is set back.

An entry is due a time after its last run. When that lies in the future, because the clock was set back meanwhile, beat
would wait for it: the reconciler would stand still for as long as the step (seen with Celery 5.7).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery.utils.time import maybe_make_aware
from django_celery_beat.schedulers import DatabaseScheduler

_SLACK = timedelta(seconds=1)


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # django-celery-beat has no types
    """Beat's scheduler; an entry whose last run is in the future counts as run now."""

    _heap: list[Any] | None

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Runs what is due; returns the seconds until the next call."""
        is_set_back = False
        for event in self._heap or ():
            entry = event.entry
            now = maybe_make_aware(entry.default_now())
            if maybe_make_aware(entry.last_run_at) > now + _SLACK:
                entry.last_run_at = entry.model.last_run_at = now
                is_set_back = True
        if is_set_back:
            self._heap = None  # its times are those of the old clock
        seconds: float = super().tick(*args, **kwargs)
        return seconds
