"""`bin/run`: one way of starting each process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bin" / "run"
COMMANDS = ["worker", "api", "control", "ingest", "beat", "experimentd", "flower", "shell", "manage"]
# Stands for the Python of a virtual environment: it shows how it was called instead of running anything.
FAKE_PYTHON = """#!/bin/sh
echo "pid=$$" "cwd=$PWD" "python=$0"
printf 'argument=%s\\n' "$@"
env | grep -e '^galileo_' -e '^OTHER' || true
"""


class Project:
    """A copy of the script in a project that has a virtual environment of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "bin").mkdir(parents=True)
        self.script = root / "bin" / "run"
        shutil.copy(SCRIPT, self.script)

    def add_venv(self, path: Path | None = None) -> Path:
        python = (path or self.root / ".venv") / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(FAKE_PYTHON)
        python.chmod(0o755)
        return python

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": os.environ["PATH"], **environment}
        command = [str(self.script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=cwd or "/", timeout=30)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    made.add_venv()
    return made


def called(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stderr
    return " ".join(re.findall(r"^argument=(.*)$", ran.stdout, re.M))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("worker", "-m loadgen.worker"),
        ("api", "-m gunicorn galileo_site.wsgi --workers 2 --threads 16 --bind 127.0.0.1:5001 --log-level info"),
        (
            "control",
            "-m celery -A galileo_site worker -Q galileo.control -n control@%h -c 1 "
            "--without-gossip --without-mingle -l INFO",
        ),
        (
            "ingest",
            "-m celery -A galileo_site worker -Q galileo.ingest.0 -n ingest@%h -P solo "
            "--without-gossip --without-mingle -l INFO",
        ),
        ("beat", "-m celery -A galileo_site beat -l INFO --pidfile="),
        ("experimentd", "manage.py experimentd"),
        ("flower", "-m celery -A galileo_site flower --address=127.0.0.1 --port=5555"),
        ("shell", "manage.py shell"),
        ("manage", "manage.py"),
    ],
)
def test_a_command_becomes_its_process_in_the_project(project: Project, command: str, expected: str) -> None:
    ran = project.run(command)
    assert called(ran) == expected
    assert f"cwd={project.root}" in ran.stdout


def test_the_script_is_replaced_by_the_process(project: Project) -> None:
    process = subprocess.Popen([str(project.script), "worker"], stdout=subprocess.PIPE, text=True, cwd="/")
    output, _ = process.communicate(timeout=30)
    assert f"pid={process.pid} " in output


def test_the_environment_decides_addresses_queue_and_level(project: Project) -> None:
    web = project.run("api", galileo_web_host="0.0.0.0", galileo_web_port="8000", galileo_logging_level="WARNING")
    assert "--bind 0.0.0.0:8000 --log-level warning" in called(web)
    ingest = project.run("ingest", galileo_ingest_queue="2", galileo_logging_level="DEBUG")
    assert "-Q galileo.ingest.2 -n ingest2@%h -P solo" in called(ingest)
    assert called(ingest).endswith("-l DEBUG")


def test_further_arguments_go_to_the_process(project: Project) -> None:
    assert called(project.run("shell", "-c", "print(1, 2)")) == "manage.py shell -c print(1, 2)"


def test_an_environment_file_is_exported_without_evaluation(project: Project, tmp_path: Path) -> None:
    lines = [
        "# a comment",
        "",
        "galileo_zone=A",
        "  galileo_rack = no",
        'galileo_quoted="two words"',
        "galileo_single='it is'",
        "export galileo_exported=yes\r",
        "galileo_command=$(touch pwned) `id` $HOME",
        "galileo_equals=a=b#c",
        "OTHER_LAST=no newline",
    ]
    file = tmp_path / "worker.env"
    file.write_text("\n".join(lines[:3] + lines[4:]))
    ran = project.run("--envfile=worker.env", "worker", cwd=tmp_path, galileo_zone="B")
    assert called(ran) == "-m loadgen.worker"
    variables = dict(line.split("=", 1) for line in ran.stdout.splitlines() if line.startswith(("galileo_", "OTHER")))
    assert variables == {
        "galileo_zone": "A",
        "galileo_quoted": "two words",
        "galileo_single": "it is",
        "galileo_exported": "yes",
        "galileo_command": "$(touch pwned) `id` $HOME",
        "galileo_equals": "a=b#c",
        "OTHER_LAST": "no newline",
    }
    file.write_text("\n".join(lines))
    ran = project.run("--envfile=worker.env", "worker", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (2, "bin/run: line 4 of 'worker.env' is not of the form NAME=VALUE.\n")


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["fly"], {}, "unknown command 'fly'; try bin/run help."),
        (["--verbose", "api"], {}, "unknown option '--verbose'; try bin/run help."),
        (["--envfile=", "api"], {}, "unknown option '--envfile='; try bin/run help."),
        (["--envfile=none.env", "api"], {}, "the environment file 'none.env' does not exist or cannot be read."),
        (["--envfile=/", "api"], {}, "the environment file '/' does not exist or cannot be read."),
        (["api"], {"galileo_venv": "/none"}, "galileo_venv is '/none', and it has no bin/python."),
        (["ingest"], {"galileo_ingest_queue": "one"}, "galileo_ingest_queue must be a whole number, got 'one'."),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_two(
    project: Project, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    ran = project.run(*arguments, **environment)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"bin/run: {sentence}\n")


def test_without_a_virtual_environment_it_says_how_to_make_one(tmp_path: Path) -> None:
    ran = Project(tmp_path / "bare").run("worker")
    assert ran.returncode == 2
    assert "run 'make venv'" in ran.stderr


def test_the_virtual_environment_is_chosen_in_order(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    asked, active = project.add_venv(tmp_path / "asked"), project.add_venv(tmp_path / "active")
    both = {"galileo_venv": str(tmp_path / "asked"), "VIRTUAL_ENV": str(tmp_path / "active")}
    assert f"python={asked}" in project.run("worker", **both).stdout
    del both["galileo_venv"]
    assert f"python={active}" in project.run("worker", **both).stdout
    own = project.add_venv()
    assert f"python={own}" in project.run("worker", **both).stdout


def test_it_can_be_called_through_a_link_and_from_anywhere(project: Project, tmp_path: Path) -> None:
    (tmp_path / "galileo").symlink_to(project.script)
    ran = subprocess.run([str(tmp_path / "galileo"), "worker"], capture_output=True, text=True, cwd=tmp_path)
    assert f"cwd={project.root}" in ran.stdout


@pytest.mark.parametrize("arguments", [["help"], ["--help"], []])
def test_help_needs_no_virtual_environment(tmp_path: Path, arguments: list[str]) -> None:
    ran = Project(tmp_path / "bare").run(*arguments)
    assert ran.returncode == 0
    assert all(re.search(rf"^  {command} ", ran.stdout, re.M) for command in COMMANDS)
