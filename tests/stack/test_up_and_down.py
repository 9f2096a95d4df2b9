"""`up`, `status` and `down` with a supervisor in the background. Galileo's own processes are stand-ins."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from galileo_site.stack import ports
from galileo_site.stack.state import is_locked
from tests.stack.waiting import wait_for
from tests.support.process_tree import living

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


class Machine:
    """A state directory, and commands on it."""

    def __init__(self, directory: Path) -> None:
        self.var = directory / "var"
        self.calls_file = directory / "calls"
        self.calls_file.touch()
        self.port = ports.pick_free()

    def run(self, command: str, **fakes: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "CALLS": str(self.calls_file),
            "galileo_state_dir": str(self.var),
            "galileo_redis_port": "0",  # any free one: tests.settings names port 1, which root may use
            "galileo_web_port": str(self.port),
            **{f"FAKE_{name}": action for name, action in fakes.items()},
        }
        program = [sys.executable, "-m", "tests.stack.stand_ins", command]
        return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    def state(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads((self.var / "stack.json").read_text())
        return described

    def processes(self) -> list[psutil.Process]:
        """The supervisor and all below it."""
        supervisor = psutil.Process(self.state()["pid"])
        return [supervisor, *supervisor.children(recursive=True)]

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.run("down")
    assert not is_locked(made.var / "lock")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, subprocess.CompletedProcess[str]]]:
    """A machine whose stack is up, and how `up` ended, for tests that leave it as it is."""
    made = Machine(tmp_path_factory.mktemp("up"))
    yield made, made.run("up")
    made.run("down")
    assert not is_locked(made.var / "lock")


Up = tuple[Machine, "subprocess.CompletedProcess[str]"]


def test_up_prints_the_address_and_the_password_when_ready(up: Up) -> None:
    machine, ran = up
    assert (ran.returncode, ran.stderr) == (0, "")
    password = json.loads((machine.var / "secrets.json").read_text())["admin_password"]
    fields = dict(line.split(maxsplit=1) for line in ran.stdout.splitlines() if line.startswith("  "))
    assert fields["web"] == f"http://127.0.0.1:{machine.port}/"
    assert (fields["user"], fields["password"]) == ("admin", password)
    assert {child["name"]: child["state"] for child in machine.state()["children"]} == dict.fromkeys(
        [
            "redis",
            "service-1",
            "service-2",
            "service-3",
            "web",
            "control",
            "ingest",
            "beat",
            "experimentd",
            "worker-a",
            "worker-b",
        ],
        "running",
    )
    assert stat.S_IMODE((machine.var / "stack.json").stat().st_mode) == 0o600


def test_up_announces_an_open_api_also_the_second_time(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("galileo_api_auth", "none")
    assert "API        open to everyone" in machine.run("up").stdout
    monkeypatch.delenv("galileo_api_auth")
    assert "API        open to everyone" in machine.run("up").stdout


def test_up_sets_the_route_to_the_example_services(up: Up) -> None:
    machine, _ = up
    (route,) = [call for call in machine.calls() if call.startswith("set_route ")]
    assert [part.rpartition("@")[2] for part in route.split()] == ["set_route", "squeezenet", "1", "2", "3"]


def test_the_supervisor_has_left_the_terminal(up: Up) -> None:
    machine, _ = up
    supervisor = machine.processes()[0]
    assert os.getsid(supervisor.pid) == supervisor.pid
    assert supervisor.ppid() != os.getpid()


def test_a_second_up_starts_nothing(up: Up) -> None:
    machine, _ = up
    before = machine.processes()
    ran = machine.run("up")
    assert ran.returncode == 0
    assert ran.stdout.startswith("Galileo is running already.\n")
    assert f"http://127.0.0.1:{machine.port}/" in ran.stdout
    assert machine.processes() == before


def test_down_stops_everything_and_the_port_is_free_again(machine: Machine) -> None:
    machine.run("up")
    processes = machine.processes()
    ran = machine.run("down")
    assert (ran.returncode, ran.stdout) == (0, "Stopping Galileo …\nGalileo is stopped.\n")
    assert living(processes) == []
    assert not (machine.var / "stack.json").exists()
    assert machine.run("down").stdout == "Galileo is not running.\n"


def test_what_was_made_once_is_kept_for_the_next_start(machine: Machine) -> None:
    first = machine.run("up")
    machine.run("down")
    second = machine.run("up")
    shown = [line for line in first.stdout.splitlines() if "password" in line]
    assert shown == [line for line in second.stdout.splitlines() if "password" in line]


def test_a_killed_supervisor_takes_its_children_along(machine: Machine) -> None:
    machine.run("up")
    processes = machine.processes()
    processes[0].kill()
    wait_for(lambda: not living(processes))
    assert machine.run("status").stdout == "Galileo is not running.\n"
    ran = machine.run("up")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert machine.state()["pid"] != processes[0].pid


def test_a_child_that_dies_is_restarted_and_logged(machine: Machine) -> None:
    machine.run("up")
    pid = next(child["pid"] for child in machine.state()["children"] if child["name"] == "beat")
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        beat = next(child for child in machine.state()["children"] if child["name"] == "beat")
        return beat["restarts"] == 1 and beat["pid"] != pid and beat["state"] == "running"

    wait_for(is_back)
    log = (machine.var / "log" / "stack.log").read_text()
    assert f"beat (pid {pid}) ended with status -9; it starts again in 1 s" in log
    assert "started again 1 time" in machine.run("status").stdout


def test_a_child_that_dies_at_the_start_ends_up_with_its_log(machine: Machine) -> None:
    ran = machine.run("up", INGEST="7")
    assert ran.returncode == 1
    assert "ingest ended with status 7 while starting:" in ran.stdout + ran.stderr
    assert not is_locked(machine.var / "lock")
    ended = [call for call in machine.calls() if "got SIGTERM" in call]
    assert "worker waits" not in machine.calls()
    assert ended, "the others were stopped"
