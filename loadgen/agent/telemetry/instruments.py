"""Instruments: each reads a part of this device's state, with the names and units of telemd (Linux).

| metric                     | unit                                                                        |
| -------------------------- | --------------------------------------------------------------------------- |
| cpu                        | % of all cores' time since the last reading in which they were busy         |
| cpu_quota                  | cores that the tightest CPU quota of a control group grants; none: missing  |
| cpu_throttled              | % of a quota's periods since the last reading in which it was used up       |
| freq                       | kHz, the sum over the cores                                                 |
| ram                        | kB (1,024 bytes) in use, that is, not available                             |
| rd/<disk>, wr/<disk>       | kB/s (1,000 bytes) that were read and written                               |
| rx/<device>, tx/<device>   | kB/s (1,000 bytes) that were received and sent                              |
| load1, load5               | the system's load averages over 1 and 5 minutes                             |
| procs                      | threads that run or could run now                                           |
| psi_<resource>/some, full  | µs, since boot, in which some or all tasks waited for cpu, memory or io     |
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from loadgen.device.cgroup import CpuGroup, Periods, limited_groups

logger = logging.getLogger(__name__)

# A limit of each kind, because a host of containers has hundreds of interfaces.
MAX_DEVICES = 32

_BLOCK_DEVICES = Path("/sys/block")
_CORES = Path("/sys/devices/system/cpu")
_LOADAVG = Path("/proc/loadavg")
_PRESSURE = Path("/proc/pressure")
_IN_MEMORY = ("loop", "ram", "zram")
# user, nice, system, idle, iowait, irq, softirq, steal; the guest times, which follow, are already in user and nice.
_CPU_FIELDS = 8


class Reading(NamedTuple):
    """A current value."""

    metric: str
    subsystem: str
    value: float


class Instruments:
    """All instruments of this device. Rates and shares are available from the second reading on."""

    def __init__(self, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self._read_ns: int | None = None
        self._failed: set[str] = set()
        self._instruments: dict[str, Callable[[float], Iterator[Reading]]] = {
            "cpu": Cpu(),
            "quota": Quota(),
            "freq": Frequency(),
            "ram": read_ram,
            "disk": Rates("rd", "wr", disk_bytes),
            "net": Rates("rx", "tx", net_bytes),
            "load": read_load,
            **{f"psi_{path.name}": Pressure(path) for path in sorted(_PRESSURE.glob("*")) if path.name != "irq"},
        }

    def read(self) -> list[Reading]:
        """Returns the readings of all instruments; one that fails is left out, and logged once."""
        now_ns = self._monotonic_ns()
        elapsed_s = 0.0 if self._read_ns is None else (now_ns - self._read_ns) / 1e9
        self._read_ns = now_ns
        readings: list[Reading] = []
        for name, instrument in self._instruments.items():
            try:
                readings.extend(instrument(elapsed_s))
            except (OSError, ValueError, IndexError, NotImplementedError) as error:
                if name not in self._failed:
                    logger.warning("telemetry of %s cannot be read: %s", name, error)
                self._failed.add(name)
        return readings


class Cpu:
    """The share of the cores' time in which they were not idle."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def __call__(self, _elapsed_s: float) -> Iterator[Reading]:
        times = psutil.cpu_times()
        now = (sum(times[:_CPU_FIELDS]), times.idle + times.iowait)
        before, self._before = self._before, now
        if before is not None and now[0] > before[0]:
            idle = (now[1] - before[1]) / (now[0] - before[0])
            yield Reading("cpu", "", 100.0 * min(1.0, max(0.0, 1.0 - idle)))


class Quota:
    """The CPU quotas of this process's control groups, and the share of their periods in which one was used up.

    The agent's groups are those of the shards, whose processes the same worker started.
    """

    def __init__(self) -> None:
        self._before: dict[CpuGroup, Periods] = {}

    def __call__(self, _elapsed_s: float) -> Iterator[Reading]:
        now = {group: group.periods() for group in limited_groups()}
        before, self._before = self._before, now
        quotas = [quota for group in now if (quota := group.quota_cores()) is not None]
        if quotas:
            yield Reading("cpu_quota", "", min(quotas))
        shares = [_throttled_percent(periods, before[group]) for group, periods in now.items() if group in before]
        if shares:
            yield Reading("cpu_throttled", "", max(shares))


def _throttled_percent(now: Periods, before: Periods) -> float:
    """Returns 0 where no period had work to do."""
    return 100.0 * max(0, now.throttled - before.throttled) / max(1, now.all - before.all)


class Frequency:
    """The cores' clock rates; where the kernel does not control them, the rate found at the start."""

    def __init__(self) -> None:
        self._paths = sorted(_CORES.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._fixed_khz = None if self._paths else _fixed_frequency_khz()

    def __call__(self, _elapsed_s: float) -> Iterator[Reading]:
        if self._paths:
            yield Reading("freq", "", float(sum(int(path.read_bytes()) for path in self._paths)))
        elif self._fixed_khz:
            yield Reading("freq", "", self._fixed_khz)


class Rates:
    """Bytes into and out of each device per second; a new device has no rate yet."""

    def __init__(self, inward: str, outward: str, read: Callable[[], dict[str, tuple[int, int]]]) -> None:
        self._metrics = (inward, outward)
        self._read = read
        self._before: dict[str, tuple[int, int]] = {}

    def __call__(self, elapsed_s: float) -> Iterator[Reading]:
        now = self._read()
        before, self._before = self._before, now
        if elapsed_s <= 0:
            return
        for device in sorted(now.keys() & before.keys())[:MAX_DEVICES]:
            for metric, count, earlier in zip(self._metrics, now[device], before[device], strict=True):
                if count >= earlier:  # otherwise the device was replaced, or its counter restarted
                    yield Reading(metric, device, (count - earlier) / elapsed_s / 1000)


class Pressure:
    """The time that tasks have waited for a resource."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, _elapsed_s: float) -> Iterator[Reading]:
        for line in self._path.read_text().splitlines():
            kind, *fields = line.split()
            yield Reading(f"psi_{self._path.name}", kind, float(fields[-1].removeprefix("total=")))


def read_ram(_elapsed_s: float) -> Iterator[Reading]:
    memory = psutil.virtual_memory()
    yield Reading("ram", "", (memory.total - memory.available) / 1024)


def read_load(_elapsed_s: float) -> Iterator[Reading]:
    load1, load5, _, procs, _ = _LOADAVG.read_text().split()
    yield Reading("load1", "", float(load1))
    yield Reading("load5", "", float(load5))
    yield Reading("procs", "", float(procs.partition("/")[0]))


def disk_bytes() -> dict[str, tuple[int, int]]:
    """Returns the bytes read and written of each disk, without its partitions."""
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False)
    disks = set(block_devices())
    return {name: (disk.read_bytes, disk.write_bytes) for name, disk in counters.items() if name in disks}


def net_bytes() -> dict[str, tuple[int, int]]:
    """Returns the bytes received and sent of each network interface except the loopback."""
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    return {name: (nic.bytes_recv, nic.bytes_sent) for name, nic in counters.items() if name != "lo"}


def block_devices() -> list[str]:
    """Returns the names of the disks, without those that are files or memory."""
    with contextlib.suppress(OSError):  # some containers have no such folder
        return sorted(path.name for path in _BLOCK_DEVICES.iterdir() if not path.name.startswith(_IN_MEMORY))
    return []


def _fixed_frequency_khz() -> float | None:
    with contextlib.suppress(OSError, NotImplementedError):
        frequency = psutil.cpu_freq()
        if frequency is not None and frequency.current > 0:
            return float(frequency.current) * 1000 * (psutil.cpu_count() or 1)
    return None
