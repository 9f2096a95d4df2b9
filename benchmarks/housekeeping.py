"""Keeps the kernel's own threads off the generator's core while something is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_KTHREADD = 2  # the parent of every thread of the kernel


@contextmanager
def kept_off(core: int) -> Iterator[int]:
    """Threads of the kernel that may run elsewhere do, until the context ends; yields how many were moved.

    One of them that takes the core for some ten milliseconds every few seconds, such as the one that looks for pages
    nobody uses, decides what lateness is measured at a high rate. Those that are bound to a core stay; to move others
    takes root.
    """
    moved = {}
    for pid in kernel_threads():
        try:
            allowed = os.sched_getaffinity(pid)
            if core in allowed and len(allowed) > 1:
                os.sched_setaffinity(pid, allowed - {core})
                moved[pid] = allowed
        except OSError:  # bound to its core, gone, or not ours to move
            continue
    try:
        yield len(moved)
    finally:
        for pid, allowed in moved.items():
            try:
                os.sched_setaffinity(pid, allowed)
            except OSError:
                continue


def kernel_threads() -> list[int]:
    """The process ids of all of them; none in a container that cannot see them."""
    if not psutil.pid_exists(_KTHREADD) or psutil.Process(_KTHREADD).name() != "kthreadd":
        return []
    return [process.pid for process in psutil.process_iter(["ppid"]) if process.info["ppid"] == _KTHREADD]
