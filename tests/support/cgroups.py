"""A control group with a CPU quota, for tests that run as root where the kernel has cgroups that can be written."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PERIOD_US = 100_000
_ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def cpu_group(cores: float) -> Iterator[Path]:
    """Yields the folder of a group with a quota; a process joins it by its id in `cgroup.procs`.

    The test is skipped where no such group can be made.
    """
    parent = next((path for path in (_ROOT / "cpu", _ROOT / "cpu,cpuacct", _ROOT) if _can_limit(path)), None)
    if parent is None:
        pytest.skip("no control group with a CPU quota can be made here")
    folder = parent / f"galileo-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        folder.mkdir()
        quota_us = round(cores * PERIOD_US)
        if (folder / "cpu.max").exists():
            (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no control group with a CPU quota can be made here: {error}")
    try:
        yield folder
    finally:
        _remove(folder)


def _can_limit(folder: Path) -> bool:
    if (folder / "cpu.cfs_quota_us").exists():
        return os.access(folder, os.W_OK)
    try:
        return "cpu" in (folder / "cgroup.subtree_control").read_text().split() and os.access(folder, os.W_OK)
    except OSError:
        return False


def _remove(folder: Path) -> None:
    """Removes the group when its last process has ended."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
