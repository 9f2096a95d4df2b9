"""Lets others write to SQLite while batches are ingested one after the other.

SQLite takes one writer at a time, and queues nobody: who finds it locked looks again after some milliseconds, later
after 0.1 s. Without a pause, the next batch nearly always has the lock again by then, and small writes, such as an
experiment's status, wait for seconds. Other databases lock rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection

# Of the time that a batch took, so that it suits small batches and slow disks, too. Beside an endless row of batches of
# 6,000 rows, a quarter kept 99 % of small writes below 0.35 s, a tenth below 0.65 s, no pause below 1 to 3 s.
PAUSE_SHARE = 0.25
# Those who wait look at least this often.
MAX_PAUSE_S = 0.1


@contextmanager
def leaving_turns(
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
) -> Iterator[None]:
    """Around the ingest of a batch: pauses after it, in seconds of `clock`, where writers have to take turns."""
    started_s = clock()
    yield
    if connection.vendor == "sqlite":
        sleep(min(PAUSE_SHARE * (clock() - started_s), MAX_PAUSE_S))
