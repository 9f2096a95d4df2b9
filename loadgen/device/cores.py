"""The cores that this process may use, and CoreWatch: the CPU time that other processes use on them (Linux).

The scheduler may let a small load run on time beside a busy process, or move it to another core; the measurement
depends on that process all the same.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from loadgen.device.cgroup import quota_cores
from loadgen.device.process import stat_fields

_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# Fields of a cpu line in /proc/stat (proc_stat(5)). In idle and iowait, the core was unused; steal is the time that the
# hypervisor gave to other guests; the guest times, which follow it, are already in user and nice.
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
# Fields of proc_pid_stat(5), counted from the state.
_UTIME, _STIME, _PROCESSOR = 11, 12, 36


def usable_cores() -> int:
    """Returns how many cores this process can keep busy, at least 1: those that it may use and its quota pays for."""
    permitted = len(os.sched_getaffinity(0))
    quota = quota_cores()
    return permitted if quota is None else max(1, min(permitted, int(quota)))


class CoreTimes(NamedTuple):
    """The time since boot that a core was busy, and that the hypervisor gave it to other guests."""

    busy_ns: int
    stolen_ns: int


class ProcessTimes(NamedTuple):
    """The CPU time of a process since its start, and the core that it used last."""

    cpu_ns: int
    core: int


class CoreWatch:
    """Sums the time that other processes used this process's core (`others_ns`), and that core's steal (`stolen_ns`).

    The process needs a second core for its agent and for interrupts. So where all but one of the permitted cores were
    busy, the least busy of these counts instead if it was used more. Both sums stay 0 where /proc lacks the figures.

    Siblings are processes that work for the same load. Their time does not count: where they compete with this
    process, its own account shows the waiting.

    Args:
        own_cpu_ns: this process's CPU time.
        siblings: pids.
    """

    def __init__(self, own_cpu_ns: int, siblings: Collection[int] = ()) -> None:
        self.others_ns = 0
        self.stolen_ns = 0
        self._own_cpu_ns = own_cpu_ns
        self._cores = _core_times()
        self._siblings = _times_of(siblings)

    def look(self, own_cpu_ns: int, siblings: Collection[int] = ()) -> None:
        """Updates the sums; all time since the last call counts for the core that the process is on now."""
        cores, processes = _core_times(), _times_of(siblings)
        own = process_times(os.getpid())
        if own is not None and own.core in cores and own.core in self._cores:
            busy_ns = {
                core: times.busy_ns - self._cores[core].busy_ns for core, times in cores.items() if core in self._cores
            }
            spent = [
                (times.core, times.cpu_ns - self._siblings[pid].cpu_ns)
                for pid, times in processes.items()
                if pid in self._siblings
            ]
            self.others_ns += others_of(busy_ns, own.core, own_cpu_ns - self._own_cpu_ns, spent)
            self.stolen_ns += max(0, cores[own.core].stolen_ns - self._cores[own.core].stolen_ns)
        self._cores, self._siblings, self._own_cpu_ns = cores, processes, own_cpu_ns


def others_of(busy_ns: dict[int, int], core: int, own_ns: int, siblings: Collection[tuple[int, int]] = ()) -> int:
    """Returns the time that others used `core`, or the second least used core if that is more.

    It is at most what others used of all cores together, because a process that changed its core within the time did
    part of its work on a core other than `core`.

    Args:
        busy_ns: the time that each permitted core was busy.
        own_ns: CPU time of the process, counted for `core`.
        siblings: core and CPU time of each.
    """
    if core not in busy_ns:
        return 0
    others_ns = dict(busy_ns)
    all_ns = sum(busy_ns.values())
    for where, used_ns in ((core, own_ns), *siblings):
        all_ns -= used_ns
        if where in others_ns:
            others_ns[where] = max(0, others_ns[where] - used_ns)
    return max(0, min(all_ns, max([others_ns[core], *sorted(others_ns.values())[1:2]])))


def process_times(pid: int) -> ProcessTimes | None:
    """Returns None for a process that has ended, or where /proc lacks the figures."""
    fields = stat_fields(pid)
    if len(fields) <= _PROCESSOR:
        return None
    return ProcessTimes((int(fields[_UTIME]) + int(fields[_STIME])) * _NS_PER_TICK, int(fields[_PROCESSOR]))


def _times_of(pids: Collection[int]) -> dict[int, ProcessTimes]:
    found = ((pid, process_times(pid)) for pid in pids)
    return {pid: times for pid, times in found if times is not None}


def _core_times() -> dict[int, CoreTimes]:
    """Returns the times of each core that this process may use."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        allowed = os.sched_getaffinity(0)
    except OSError:
        return {}
    times = {}
    for line in lines:
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in allowed:
            used = sum(int(count) for place, count in enumerate(ticks[:_STEAL]) if place not in (_IDLE, _IOWAIT))
            stolen = int(ticks[_STEAL]) if len(ticks) > _STEAL else 0
            times[int(name[3:])] = CoreTimes(used * _NS_PER_TICK, stolen * _NS_PER_TICK)
    return times
