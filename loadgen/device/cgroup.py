"""CpuGroup: a control group that limits the CPU time of this process, as those of containers and services do (Linux).

A group with a quota (cgroup v2: `cpu.max`; v1: `cpu.cfs_quota_us`) may use so much CPU time per period (100 ms by
default), on all cores together. When the time is used up, the kernel throttles the group: none of its processes runs
until the next period. See "CFS Bandwidth Control" and "Control Group v2" in the kernel's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_PROCESS = Path("/proc/self")


class Periods(NamedTuple):
    """Counts since the group was made: its periods with work to do, and those in which it was throttled."""

    all: int
    throttled: int


@dataclass(frozen=True)
class CpuGroup:
    """A group by its folder; its files are read at each call, because a quota may be changed at any time."""

    folder: Path

    def quota_cores(self) -> float | None:
        """Returns the quota as a number of cores, which may be below 1; None where there is none."""
        limit = self._fields("cpu.max") or [*self._fields("cpu.cfs_quota_us"), *self._fields("cpu.cfs_period_us")]
        if len(limit) != 2 or not limit[0].isdigit() or not limit[1].isdigit() or not int(limit[1]):
            return None  # "max", or -1
        return int(limit[0]) / int(limit[1]) or None

    def periods(self) -> Periods:
        """Returns zeros where the kernel does not count."""
        fields = self._fields("cpu.stat")
        counts = dict(zip(fields[::2], fields[1::2], strict=False))
        return Periods(int(counts.get("nr_periods", 0)), int(counts.get("nr_throttled", 0)))

    def _fields(self, name: str) -> list[str]:
        try:
            return (self.folder / name).read_text().split()
        except OSError:  # the root of a hierarchy has no such file, nor has a kernel without quotas
            return []


def limited_groups(process: Path = _PROCESS) -> list[CpuGroup]:
    """Returns the groups of a process, its own and those that contain it, that have a quota.

    Args:
        process: its folder in /proc.
    """
    groups = (CpuGroup(folder) for folder in _folders(process))
    return [group for group in groups if group.quota_cores() is not None]


def quota_cores(process: Path = _PROCESS) -> float | None:
    """Returns the CPU time that the tightest quota grants, as a number of cores; None without any quota."""
    quotas = (group.quota_cores() for group in limited_groups(process))
    return min((quota for quota in quotas if quota is not None), default=None)


def _folders(process: Path) -> Iterator[Path]:
    """Yields the folders of the groups that count CPU time, from the process's own group upwards."""
    try:
        memberships = (process / "cgroup").read_text().splitlines()
        mounts = [_Mount.of(line) for line in (process / "mountinfo").read_text().splitlines()]
    except OSError:
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        for mount in mounts:
            if mount is not None and mount.holds(controllers):
                folder = mount.folder_of(path)
                yield folder
                yield from (above for above in folder.parents if above.is_relative_to(mount.point))


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy of groups: the group that is its root here, where it is mounted, and its v1 controllers."""

    root: str
    point: Path
    is_v2: bool
    controllers: frozenset[str]

    @classmethod
    def of(cls, line: str) -> _Mount | None:
        """Parses a line of proc_pid_mountinfo(5); None for other file systems."""
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            return None
        root, point = _unescaped(fields[3]), Path(_unescaped(fields[4]))
        return cls(root, point, kind[0] == "cgroup2", frozenset(kind[2].split(",")))

    def holds(self, controllers: str) -> bool:
        """Whether this is the hierarchy of a membership, and one in which CPU time can be limited."""
        if not controllers:
            return self.is_v2
        return not self.is_v2 and "cpu" in controllers.split(",") and "cpu" in self.controllers

    def folder_of(self, path: str) -> Path:
        """Returns the folder of a group; the mount's own where the group is not below its root, as in containers."""
        root = self.root.rstrip("/")
        if ".." not in path.split("/") and (path == root or path.startswith(f"{root}/")):
            folder = self.point / path[len(root) :].strip("/")
            if folder.is_dir():
                return folder
        return self.point


def _unescaped(field: str) -> str:
    """Octal escapes stand for blanks in mountinfo."""
    return field.encode().decode("unicode_escape") if "\\" in field else field
