"""Contention: CPU time of other processes on the cores that this process needs (Linux).

A scheduler that favours short wake-ups lets a small load run on time beside a busy neighbour, or moves it away from
one; the measurement then depends on that neighbour all the same.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# Fields of a cpu line in /proc/stat (proc_stat(5)): idle and iowait were unused; steal is the time that the hypervisor
# gave to somebody else; guest times, which follow it, are in user and nice already.
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
# Of proc_pid_stat(5), counted behind the command's closing parenthesis.
_UTIME, _STIME, _PROCESSOR = 11, 12, 36


@dataclass(frozen=True)
class CoreTimes:
    """Since boot, of one core: how long it was busy, and how long the hypervisor kept it from us."""

    busy_ns: int
    stolen_ns: int


@dataclass(frozen=True)
class ProcessTimes:
    """The CPU time of a process since its start, and the core that it was on last."""

    cpu_ns: int
    core: int


class CoreWatch:
    """Adds up the time that others used the core that this process was on (`others_ns`), and the time that the
    hypervisor took from that core (`stolen_ns`).

    It needs a second core for what works beside it (its agent, interrupts): where all but one of the cores that it may
    use were busy, the least busy of those counts, if that is more. A device of one core has no such second one. Both
    sums stay 0 where the system does not tell.

    Siblings are processes that work for the same load, and are no others. Where they compete with this process it has
    to wait, which its own account shows.

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
        """Brings the sums up to date: all time since the last look counts as spent on the core of this moment."""
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
    """The time that others used of `core`, or of the second least used core if that is more.

    Never more than others used of all cores together: a process that moved within the time has left its work, by these
    figures, where it no longer is.

    Args:
        busy_ns: how long each core that the process may use was busy, with whatever.
        own_ns: CPU time of the process, spent on `core`.
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
    """None for a process that is gone, or where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return ProcessTimes((int(fields[_UTIME]) + int(fields[_STIME])) * _NS_PER_TICK, int(fields[_PROCESSOR]))
    except (OSError, IndexError, ValueError):
        return None


def _times_of(pids: Collection[int]) -> dict[int, ProcessTimes]:
    found = ((pid, process_times(pid)) for pid in pids)
    return {pid: times for pid, times in found if times is not None}


def _core_times() -> dict[int, CoreTimes]:
    """Of the cores that this process may use."""
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
