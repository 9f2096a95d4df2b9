"""The process of a client app in the shell cannot read the shell's environment, which holds secrets."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from experiments.shell import app_process
from experiments.shell.app_process import request_of
from loadgen.apps.one_request import AppQuestion

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc of Linux")]

ROOT = Path(__file__).resolve().parents[3]
GET_DUMPABLE, SET_DUMPABLE = 3, 4  # of prctl(2)
NOBODY = 65534
# Root may read everything, so that the shell of this test runs as another user. Processes that change their user are
# not dumpable until they say so; a shell is dumpable from its start.
SHELL = f"""
import ctypes, os, subprocess, sys
from experiments.shell import app_process

libc = ctypes.CDLL(None)
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
    libc.prctl({SET_DUMPABLE}, 1, 0, 0, 0)

def reads(name):
    return ["/bin/sh", "-c", f"cat /proc/{{os.getpid()}}/environ > {{sys.argv[1]}}/{{name}}"]

subprocess.run(reads("plain"), check=True)
print(app_process._run(reads("app"), 30))
"""


@pytest.fixture
def out() -> Iterator[Path]:
    """A folder that each user can write to; the folders above `tmp_path` are those of one user."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_app_cannot_read_the_environment_of_its_shell(out: Path) -> None:
    environment = {**os.environ, "galileo_redis_password": "hidden-redis", "DJANGO_SETTINGS_MODULE": "tests.settings"}
    ran = subprocess.run(
        [sys.executable, "-c", SHELL, str(out)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout == "its process ended with exit status 1\n", ran.stderr
    assert b"galileo_redis_password=hidden-redis" in (out / "plain").read_bytes()
    assert (out / "app").read_bytes() == b""


def test_shell_is_not_dumpable_while_an_app_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "curious").mkdir()
    (tmp_path / "curious" / "generator.py").write_text("def next_request():\n    return 'get', '/'\n")
    libc, found, popen = ctypes.CDLL(None), [], subprocess.Popen

    def started(*args: Any, **options: Any) -> Any:
        found.append(libc.prctl(GET_DUMPABLE, 0, 0, 0, 0))
        return popen(*args, **options)

    monkeypatch.setattr(app_process.subprocess, "Popen", started)
    assert libc.prctl(GET_DUMPABLE, 0, 0, 0, 0) == 1
    assert request_of(AppQuestion("curious", {}, str(tmp_path), "http://localhost")).method == "GET"
    assert (found, libc.prctl(GET_DUMPABLE, 0, 0, 0, 0)) == ([0], 0)
