"""Moves other processes off the generator's core during a measurement."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PROC = Path("/proc")


@contextmanager
def kept_off(core: int, proc: Path = _PROC) -> Iterator[int]:
    """Moves all threads that may run elsewhere off a core until the context ends; yields how many were moved.

    This is the shielding of cpusets, for the threads of the kernel and of other programs. A thread that takes the core
    for some ten milliseconds every few seconds, such as the kernel's page reclaim or a monitoring agent, would
    determine the lateness at a high rate. Children of a moved thread stay off the core, too; this program binds its
    generators to it explicitly. Threads that are bound to the core stay. To move other users' threads takes root.

    A separate process moves the threads back, also when this one is killed.

    Args:
        proc: lists the threads of this machine, or of this container (proc(5)).
    """
    moved = 0
    restorer = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
    )
    try:
        for thread in [int(task.name) for task in proc.glob("[0-9]*/task/[0-9]*")]:
            if had := _move(thread, core):
                restorer.stdin.write(f"{json.dumps([thread, sorted(had)])}\n")
                moved += 1
        yield moved
    finally:
        restorer.communicate()


def _move(thread: int, core: int) -> set[int]:
    """Moves a thread off a core; returns its previous cores, none if it stays."""
    try:
        allowed = os.sched_getaffinity(thread)
        if core in allowed and len(allowed) > 1:
            os.sched_setaffinity(thread, allowed - {core})
            return allowed
    except OSError:  # bound to its core, ended, or another user's
        pass
    return set()


def bring_back(lines: Iterable[str]) -> None:
    """Restores threads' cores when all lines were read; a line is `[thread, [core, …]]`."""
    for thread, allowed in map(json.loads, list(lines)):
        try:
            os.sched_setaffinity(thread, allowed)
        except OSError:  # the thread has ended
            continue


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    bring_back(sys.stdin)
