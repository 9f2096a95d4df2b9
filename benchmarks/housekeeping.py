"""Keeps all others off the generator's core while something is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROC = Path("/proc")


@contextmanager
def kept_off(core: int, proc: Path = _PROC) -> Iterator[int]:
    """All threads that may run elsewhere do, until the context ends; yields how many were moved.

    Those are the kernel's and other programs' (what cpusets call shielding a core). One that takes the core for some
    ten milliseconds every few seconds, such as the kernel's that looks for pages nobody uses, or a machine's agent,
    decides what lateness is measured at a high rate. What is started meanwhile by a thread that was moved stays off
    the core, too; this program starts its generators there by name. Threads that are bound to the core stay; to move
    those of others takes root.

    Args:
        proc: lists the threads of this machine, or of this container (proc(5)).
    """
    moved = {}
    for thread in [int(task.name) for task in proc.glob("[0-9]*/task/[0-9]*")]:
        try:
            allowed = os.sched_getaffinity(thread)
            if core in allowed and len(allowed) > 1:
                os.sched_setaffinity(thread, allowed - {core})
                moved[thread] = allowed
        except OSError:  # bound to its core, gone, or not ours to move
            continue
    try:
        yield len(moved)
    finally:
        for thread, allowed in moved.items():
            try:
                os.sched_setaffinity(thread, allowed)
            except OSError:
                continue
