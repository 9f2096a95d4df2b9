"""Processes of this machine: parents, limits, priorities, states (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1

# The number of the system call sched_setattr(2), which not every libc offers, by machine and whether this is a 64-bit
# program; a 64-bit kernel has other numbers for 32-bit programs.
_SCHED_SETATTR = {
    ("x86_64", True): 314,
    ("aarch64", True): 274,
    ("aarch64", False): 380,
    ("armv7l", False): 380,
    ("armv6l", False): 380,
}
# struct sched_attr: size, policy, flags, nice, priority, then runtime, deadline and period in ns.
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
_SHORT_TURN_NS = 100_000
_BACKGROUND_NICE = 10


def follow_parent(signum: int, parent_pid: int) -> bool:
    """Makes the kernel send this process `signum` when its parent ends. Returns False if the parent has ended already.

    The kernel watches the thread that forked this process, so the parent must fork in its main thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return os.getppid() == parent_pid


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files to the hard one. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def descriptors_left() -> int:
    """Returns how many more files this process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - sum(1 for _ in Path("/proc/self/fd").iterdir())


def take_short_turns() -> bool:
    """Requests short time slices for this thread, so that it gets a core soon after it wakes up.

    Otherwise it waits until the time slice of the running process ends, up to some milliseconds. Linux before 6.12
    ignores the request. Returns whether the kernel accepted it.
    """
    number = _SCHED_SETATTR.get((platform.machine(), sys.maxsize > 1 << 32))
    try:
        if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False
    except OSError:  # not every libc and container offers it
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, _SHORT_TURN_NS, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)


def stay_in_background() -> None:
    """Lowers this thread's priority, so that shards get the core first; the thread keeps a tenth of it."""
    with contextlib.suppress(OSError):  # a container may forbid it
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(_BACKGROUND_NICE, os.getpriority(os.PRIO_PROCESS, thread)))


def boot_id() -> str:
    """Returns the id of this boot of this machine, or '' where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class ProcessFacts:
    """A living process, identified by its pid and its start, because pids are used again."""

    pid: int
    parent_pid: int
    started_ticks: int  # since boot


def facts_of(pid: int) -> ProcessFacts | None:
    """Returns None if the process has ended or is a zombie."""
    fields = stat_fields(pid)
    if not fields or fields[0] in "ZX":
        return None
    return ProcessFacts(pid, int(fields[1]), int(fields[19]))


def stat_fields(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat from the state on, or [] if the process has ended."""
    try:
        # The command's name is in parentheses and may contain any character.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def run_queue_wait_ns() -> int:
    """Returns how long the main thread was runnable but without a core; 0 where the kernel does not count it."""
    try:
        # This runs a hundred times per second, and takes a third of pathlib's time.
        descriptor = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(descriptor, 64).split()[1])
        finally:
            os.close(descriptor)
    except (OSError, IndexError):
        return 0
