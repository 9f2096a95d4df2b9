"""Looks at processes that may end meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Returns the processes that have not ended; a zombie has ended."""
    return [process for process in processes if not _has_ended(process)]


def is_living(pid: int) -> bool:
    """Whether the process runs; a zombie has ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_of(process: psutil.Process) -> str:
    """Returns the command line; "" once the process has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def agents_of(worker: psutil.Process) -> list[psutil.Process]:
    """Returns the agents that run below a worker's main process."""
    return [child for child in living(worker.children()) if "loadgen.agent.main" in command_of(child)]


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
