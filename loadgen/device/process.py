"""Facts about processes of this machine: parents, limits, CPU times (Linux)."""

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

# sched_setattr(2), which libc does not have everywhere, by machine, and whether this program is a 64-bit one: a 64-bit
# kernel numbers the calls of a 32-bit program otherwise.
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
    """Has the kernel send us `signum` when our parent dies; False if it is dead already.

    The kernel's setting belongs to the thread that forked us, so the parent must fork in its main thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return os.getppid() == parent_pid


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files to the hard one; returns what holds now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def descriptors_left() -> int:
    """How many more files this process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - sum(1 for _ in Path("/proc/self/fd").iterdir())


def take_short_turns() -> bool:
    """Asks the kernel for short turns of this thread, at which it gets the core soon after it was woken; whether it
    heard. Linux before 6.12 does not care.

    Otherwise it would wait until the time slice of the running process is over, which is up to some milliseconds.
    """
    number = _SCHED_SETATTR.get((platform.machine(), sys.maxsize > 1 << 32))
    try:
        if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False
    except OSError:  # not every libc and container has it
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, _SHORT_TURN_NS, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)


def stay_in_background() -> None:
    """Lets what generates load have the core before this thread, which keeps a tenth of it."""
    with contextlib.suppress(OSError):  # a container may forbid it
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(_BACKGROUND_NICE, os.getpriority(os.PRIO_PROCESS, thread)))


def boot_id() -> str:
    """Identifies this boot of this machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class ProcessFacts:
    """A living process; pid and start together name it, as pids are used again."""

    pid: int
    parent_pid: int
    started_ticks: int  # since boot


def facts_of(pid: int) -> ProcessFacts | None:
    """Facts of a process, None if it is gone or a zombie."""
    try:
        # The command's name stands in parentheses and may hold anything; fields are counted behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    return ProcessFacts(pid, int(fields[1]), int(fields[19]))


def is_alive(pid: int) -> bool:
    return facts_of(pid) is not None


def run_queue_wait_ns() -> int:
    """How long our main thread was runnable while another had the core; 0 where the kernel does not count it."""
    try:
        # A hundred times a second: a third of what pathlib takes.
        descriptor = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(descriptor, 64).split()[1])
        finally:
            os.close(descriptor)
    except (OSError, IndexError):
        return 0
