"""Who else used the cores that this process needs: the contention that it cannot see in its own times (Linux).

A scheduler that favours short wake-ups lets a small load run on time beside a busy neighbour, or moves it away from
one; the measurement then depends on that neighbour all the same.
"""

from __future__ import annotations

import os
from pathlib import Path

_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# Fields of a cpu line in /proc/stat (proc_stat(5)): idle and iowait are the only ones that nobody used; guest times are
# in user and nice already.
_IDLE, _IOWAIT, _LAST = 3, 4, 8


class CoreWatch:
    """Adds up the time that others, the hypervisor among them, used the core that this process was on.

    It needs a second core for what works beside it (its agent, interrupts): where all but one of the cores that it may
    use were busy, the least busy of those counts, if that is more. A device of one core has no such second one.
    """

    def __init__(self, own_cpu_ns: int) -> None:
        self._own_cpu_ns = own_cpu_ns
        self._busy_ns = _busy_ns_by_core()
        self._others_ns = 0

    def others_ns(self, own_cpu_ns: int) -> int:
        """The sum so far; `own_cpu_ns` is this process's CPU time. The time since the last call counts as spent on the
        core of this moment. 0 for ever where the system does not tell."""
        busy_ns = _busy_ns_by_core()
        self._others_ns += others_of(
            {core: now_ns - self._busy_ns[core] for core, now_ns in busy_ns.items() if core in self._busy_ns},
            _core_now(),
            own_cpu_ns - self._own_cpu_ns,
        )
        self._busy_ns, self._own_cpu_ns = busy_ns, own_cpu_ns
        return self._others_ns


def others_of(used_ns: dict[int, int], core: int, own_ns: int) -> int:
    """What others used of `core`, or of the second least used core if that is more.

    Args:
        used_ns: how long each core that the process may use was busy, with whatever.
        own_ns: CPU time of the process, spent on `core`.
    """
    if core not in used_ns:
        return 0
    others_ns = {**used_ns, core: max(0, used_ns[core] - own_ns)}
    return max([others_ns[core], *sorted(others_ns.values())[1:2]])


def _busy_ns_by_core() -> dict[int, int]:
    """Of the cores that this process may use."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        allowed = os.sched_getaffinity(0)
    except OSError:
        return {}
    busy = {}
    for line in lines:
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in allowed:
            used = sum(int(count) for place, count in enumerate(ticks[:_LAST]) if place not in (_IDLE, _IOWAIT))
            busy[int(name[3:])] = used * _NS_PER_TICK
    return busy


def _core_now() -> int:
    try:
        # Field 39 of proc_pid_stat(5), counted behind the command's closing parenthesis.
        return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, IndexError, ValueError):
        return -1
