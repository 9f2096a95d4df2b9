"""CPU quotas of control groups are found in both versions, in containers, and at any level."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.device import cores
from loadgen.device.cgroup import CpuGroup, Periods, limited_groups, quota_cores
from tests.support.cgroups import cpu_group

V1_MOUNT = "33 31 0:30 {root} {point} rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct"
V2_MOUNT = "41 31 0:38 {root} {point} rw,relatime - cgroup2 cgroup2 rw,nsdelegate"
OTHERS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
V1_STAT = "nr_periods 200\nnr_throttled 150\nthrottled_time 9000000\n"
V2_STAT = "usage_usec 5\nuser_usec 4\nsystem_usec 1\nnr_periods 200\nnr_throttled 150\nthrottled_usec 9000\n"


class Machine:
    """A process in /proc, and hierarchies of groups in folders."""

    def __init__(self, folder: Path) -> None:
        self.process = folder / "proc"
        self.process.mkdir()
        self._folder = folder
        self._memberships = "7:blkio:/\n3:cpuset:/\n1:name=systemd:/init.scope\n"
        self._mounts = OTHERS

    def mount(self, version: int, root: str, membership: str) -> Path:
        """Mounts a hierarchy, of which the process is a member; returns the mount's folder."""
        point = self._folder / f"v{version}"
        point.mkdir()
        self._mounts += (V1_MOUNT if version == 1 else V2_MOUNT).format(root=root, point=point) + "\n"
        self._memberships += f"{'4:cpu,cpuacct' if version == 1 else '0:'}:{membership}\n"
        (self.process / "mountinfo").write_text(self._mounts)
        (self.process / "cgroup").write_text(self._memberships)
        return point


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def limit(folder: Path, version: int, quota: str, period: str = "100000") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(f"{quota} {period}\n")
        (folder / "cpu.stat").write_text(V2_STAT)
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
        (folder / "cpu.stat").write_text(V1_STAT)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("quota", "expected"), [("20000", 0.2), ("150000", 1.5), ("max", None), ("-1", None)])
def test_quota_of_the_processs_own_group_is_read(machine: Machine, version: int, quota: str, expected: float) -> None:
    point = machine.mount(version, "/", "/system.slice/galileo.service")
    limit(point / "system.slice" / "galileo.service", version, quota)
    assert quota_cores(machine.process) == expected
    assert len(limited_groups(machine.process)) == (expected is not None)


@pytest.mark.parametrize("version", [1, 2])
def test_tightest_quota_of_all_levels_counts(machine: Machine, version: int) -> None:
    point = machine.mount(version, "/", "/a/b/c")
    limit(point / "a" / "b" / "c", version, "300000")
    limit(point / "a" / "b", version, "max" if version == 2 else "-1")
    limit(point / "a", version, "50000")
    assert quota_cores(machine.process) == 0.5
    assert [group.folder.name for group in limited_groups(machine.process)] == ["c", "a"]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("root", "membership"),
    [
        ("/docker/abc", "/docker/abc"),  # v1 without a namespace: the mount shows the container's group
        ("/", "/"),  # in a cgroup namespace
        ("/", "/docker/abc"),  # the mount is the container's own, the path is the host's
        ("/", "/../other"),  # a namespace that the process has left
        ("/kubepods/pod1", "/kubepods/pod2/abc"),
    ],
)
def test_quota_of_a_container_is_that_of_the_mount(machine: Machine, version: int, root: str, membership: str) -> None:
    limit(machine.mount(version, root, membership), version, "50000")
    assert quota_cores(machine.process) == 0.5


def test_group_below_the_root_of_a_mount_is_found(machine: Machine) -> None:
    point = machine.mount(1, "/docker/abc", "/docker/abc/inner")
    limit(point / "inner", 1, "10000")
    assert quota_cores(machine.process) == 0.1


def test_hybrid_hierarchies_are_both_read(machine: Machine) -> None:
    machine.mount(2, "/", "/user.slice")
    limit(machine.mount(1, "/", "/user.slice") / "user.slice", 1, "25000")
    assert quota_cores(machine.process) == 0.25


def test_folder_with_a_blank_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "with blank"
    folder.mkdir()
    machine = Machine(folder)
    limit(machine.mount(2, "/", "/"), 2, "20000")
    mountinfo = machine.process / "mountinfo"
    mountinfo.write_text(mountinfo.read_text().replace("with blank", "with\\040blank"))
    assert quota_cores(machine.process) == 0.2


@pytest.mark.parametrize("text", ["", "0 100000", "20000", "20000 0", "a b", "20000 100000 1"])
def test_malformed_limit_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert CpuGroup(tmp_path).quota_cores() is None


@pytest.mark.parametrize("version", [1, 2])
def test_throttled_periods_are_counted(machine: Machine, version: int) -> None:
    limit(machine.mount(version, "/", "/"), version, "20000")
    (group,) = limited_groups(machine.process)
    assert group.periods() == Periods(200, 150)
    (group.folder / "cpu.stat").unlink()
    assert group.periods() == Periods(0, 0)


def test_machine_without_groups_has_no_quota(tmp_path: Path) -> None:
    assert quota_cores(tmp_path) is None
    assert limited_groups(tmp_path) == []


@pytest.mark.parametrize(
    ("quota", "expected"), [(None, 4), (0.2, 1), (1.0, 1), (1.99, 1), (2.0, 2), (3.5, 3), (4.0, 4), (64.0, 4)]
)
def test_cores_that_the_quota_does_not_pay_for_do_not_count(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(cores, "quota_cores", lambda: quota)
    assert cores.usable_cores() == expected


@pytest.mark.slow
def test_real_quota_is_found_and_its_throttling_counted() -> None:
    with cpu_group(cores=0.2) as folder:
        busy = subprocess.Popen([sys.executable, "-c", "input()\nwhile True: pass"], stdin=subprocess.PIPE)
        try:
            (folder / "cgroup.procs").write_text(str(busy.pid))
            assert quota_cores(Path(f"/proc/{busy.pid}")) == 0.2
            (group,) = limited_groups(Path(f"/proc/{busy.pid}"))
            assert busy.stdin is not None
            busy.stdin.write(b"\n")
            busy.stdin.flush()
            for _ in range(100):
                if group.periods().throttled >= 3:
                    break
                with pytest.raises(subprocess.TimeoutExpired):
                    busy.wait(0.1)
            assert 3 <= group.periods().throttled <= group.periods().all
        finally:
            busy.kill()
            busy.communicate()
