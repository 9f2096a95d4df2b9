"""Waits for other processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import psutil


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true"
        time.sleep(0.02)


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Returns the processes that have not ended; a zombie has ended."""
    return [process for process in processes if not _has_ended(process)]


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
