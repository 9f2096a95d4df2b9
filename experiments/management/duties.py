"""Duties of the experiment daemon, which run beside each other, each in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from django.db import connections

log = logging.getLogger(__name__)

# Runs until the event is set.
Duty = Callable[[threading.Event], None]

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
# A duty that has run this long is well again.
WELL_AFTER_S = 60.0


def start(duties: Mapping[str, Duty], stop: threading.Event) -> list[threading.Thread]:
    """Starts each duty; one that breaks off is told in the log, and begins again after a pause that grows.

    The threads are daemons: one that hangs in a system call does not hold up the process when it ends. What a duty does
    must bear that, as it must bear a kill.
    """
    threads = [
        threading.Thread(target=_run, args=(name, duty, stop), name=name, daemon=True) for name, duty in duties.items()
    ]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread], within_s: float) -> list[str]:
    """Waits for the threads, all together not longer than that; the names of those that have not ended."""
    end_at_s = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, end_at_s - time.monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]


def _run(name: str, duty: Duty, stop: threading.Event) -> None:
    pause_s = FIRST_PAUSE_S
    while not stop.is_set():
        began_at_s = time.monotonic()
        try:
            duty(stop)
        except Exception:  # the other duties go on, and this one begins again
            if time.monotonic() - began_at_s > WELL_AFTER_S:
                pause_s = FIRST_PAUSE_S
            log.exception("%s broke off; it begins again in %g s", name, pause_s)
            stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            return
        finally:
            connections.close_all()
