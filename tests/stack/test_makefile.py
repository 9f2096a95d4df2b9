"""The Makefile: its help, and when `clean` refuses."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"
TARGETS = [
    "demo",
    "up",
    "down",
    "venv",
    "test",
    "test-fast",
    "test-long",
    "test-interpreted",
    "test-databases",
    "faults",
    "soak",
    "bench",
    "lint",
    "lock",
    "clean",
]


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(MAKEFILE, directory)
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


def test_help_is_the_default_and_names_every_target(tmp_path: Path) -> None:
    ran = make(tmp_path)
    assert re.findall(r"^make (\S+)", ran.stdout, re.M) == TARGETS


@pytest.mark.parametrize("state_dir", ["var", "elsewhere"])
def test_clean_refuses_while_a_stack_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_dir: str) -> None:
    monkeypatch.setenv("galileo_state_dir", state_dir)
    (tmp_path / state_dir).mkdir()
    (tmp_path / ".venv").mkdir()
    with (tmp_path / state_dir / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = make(tmp_path, "clean")
    assert ran.returncode != 0
    assert "stop it with 'make down'" in ran.stderr
    assert (tmp_path / ".venv").exists()


def test_clean_removes_what_was_made_and_nothing_else(tmp_path: Path) -> None:
    for made in (
        "var/log",
        ".venv/bin",
        "benchmarks/.venv/bin",
        ".ruff_cache",
        "loadgen/__pycache__",
        "loadgen/_compiled/0f",
    ):
        (tmp_path / made).mkdir(parents=True)
    (tmp_path / "var" / "lock").touch()
    (tmp_path / "loadgen" / "pacer.py").touch()
    assert make(tmp_path, "clean").returncode == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "Makefile",
        "benchmarks",
        "loadgen",
        "loadgen/pacer.py",
    ]


def test_an_unfit_python_ends_the_installation_with_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "preflight").write_text("raise SystemExit('Galileo needs Python 3.11 or newer.')")
    for requirements in ("requirements.txt", "requirements-compile.txt"):
        (tmp_path / requirements).touch()
    ran = make(tmp_path, "venv")
    assert ran.returncode != 0
    assert "Galileo needs Python 3.11 or newer." in ran.stderr
    assert not (tmp_path / ".venv").exists()
