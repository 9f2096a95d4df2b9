"""The loops of the experiment daemon: each runs in a thread of its own, and is restarted after an error."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from django.db import connections

from loadgen.backoff import Backoff

log = logging.getLogger(__name__)

# Runs until the event is set.
Loop = Callable[[threading.Event], None]


def start(loops: Mapping[str, Loop], stop: threading.Event) -> list[threading.Thread]:
    """Starts each loop. A loop that raises is logged, and restarted after a pause that grows.

    The threads are daemons, so that one that hangs in a system call does not delay the end of the process. A loop must
    tolerate that as it must tolerate a kill.
    """
    threads = [
        threading.Thread(target=_run, args=(name, loop, stop), name=name, daemon=True) for name, loop in loops.items()
    ]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread], within_s: float) -> list[str]:
    """Waits for all threads, `within_s` in total. Returns the names of those that are still running."""
    end_at_s = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, end_at_s - time.monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]


def _run(name: str, loop: Loop, stop: threading.Event) -> None:
    backoff = Backoff()
    while not stop.is_set():
        began_at_s = time.monotonic()
        try:
            loop(stop)
        except Exception:  # the other loops continue, and this one is restarted
            pause_s = backoff.pause_s(time.monotonic() - began_at_s)
            log.exception("%s failed; it is restarted in %g s", name, pause_s)
            stop.wait(pause_s)
        else:
            return
        finally:
            connections.close_all()
