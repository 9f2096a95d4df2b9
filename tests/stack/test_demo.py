"""`demo`: its commands and exit status; it always stops everything. Galileo's own processes are stand-ins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from galileo_site.stack import demo, ports
from galileo_site.stack.config import read_config
from galileo_site.stack.state import StateDir, is_locked
from loadgen.interruption import Interruption
from tests.stack.stand_ins import fake
from tests.stack.waiting import wait_for
from tests.support.process_tree import command_of, living

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


class Demo:
    """One run in a process group of its own, as make has one."""

    def __init__(self, directory: Path, command: str = "demo", **fakes: str) -> None:
        self.var = directory / "var"
        self.calls_file = directory / "calls"
        self.calls_file.touch()
        environment = {
            **os.environ,
            "CALLS": str(self.calls_file),
            "galileo_state_dir": str(self.var),
            "galileo_redis_port": "0",  # any free one: tests.settings names port 1, which root may use
            "galileo_web_port": str(ports.pick_free()),
            **{f"FAKE_{name}": action for name, action in fakes.items()},
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.stack.stand_ins", command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self.children: list[psutil.Process] = []

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()

    def wait_for_call(self, call: str) -> None:
        wait_for(lambda: call in self.calls())
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> tuple[int, str, str]:
        """Exit status, output and errors; nothing may be left."""
        output, errors = self.process.communicate(timeout=60)
        assert living(self.children) == []
        assert not is_locked(self.var / "lock")
        assert not (self.var / "stack.json").exists()
        return self.process.returncode, output, errors


def names(calls: list[str]) -> list[str]:
    return [call.split()[0] for call in calls]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Demo, str]:
    """A demo that has ended well, and its output."""
    demo = Demo(tmp_path_factory.mktemp("demo"))
    status, output, errors = demo.end()
    assert (status, errors) == (0, "")
    return demo, output


def test_a_demo_starts_runs_reports_and_stops(finished: tuple[Demo, str]) -> None:
    demo, output = finished
    calls = demo.calls()
    assert names(calls)[:2] == ["migrate", "ensure_admin"]
    assert {"api", "control", "ingest", "beat", "experimentd"} <= set(names(calls))
    assert calls.count("worker waits") == calls.count("worker got SIGTERM") == 2
    run, report = (next(call for call in calls if call.startswith(name)) for name in ("run_experiment", "report"))
    assert calls.index(run) < calls.index(report)
    assert "examples/demo.yml --wait --id-file" in run
    weights = [host.rpartition("@")[2] for host in run.split("--route squeezenet=")[1].split(",")]
    assert weights == ["1", "2", "3"]
    logs = [demo.var / "log" / f"service-{number}.requests.log" for number in (1, 2, 3)]
    assert report == "report 202611220000-abcd " + " ".join(f"--target-log {log}" for log in logs)
    assert all(log.exists() for log in logs)
    assert output.splitlines()[0] == "Starting Galileo …"
    assert output.splitlines()[-2:] == ["Stopping Galileo …", "Everything is stopped."]


def test_workers_stop_first_and_after_the_experiment(finished: tuple[Demo, str]) -> None:
    demo, _ = finished
    ends = [call.split()[0] for call in demo.calls() if "got SIGTERM" in call]
    assert ends[:2] == ["worker", "worker"]
    assert sorted(ends[2:]) == ["api", "beat", "control", "experimentd", "ingest"]
    assert names(demo.calls()).index("report") < demo.calls().index("worker got SIGTERM")


@pytest.mark.parametrize(("run", "report", "expected"), [("1", "0", 1), ("3", "0", 3), ("0", "1", 1), ("2", "1", 2)])
def test_the_exit_status_is_that_of_the_run_or_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, report: str, expected: int
) -> None:
    calls = tmp_path / "calls"
    for name, value in {"CALLS": str(calls), "FAKE_RUN_EXPERIMENT": run, "FAKE_REPORT": report}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(demo, "manage", fake)
    monkeypatch.setattr(demo, "running", running)
    state = StateDir(tmp_path)
    assert demo.demo(read_config(), state, Interruption()) == expected
    assert names(calls.read_text().splitlines()) == ["run_experiment", "report"], "a failed experiment is reported, too"


@contextmanager
def running(*_: object) -> Iterator[SimpleNamespace]:
    """A stack that has no process."""
    environments = SimpleNamespace(controller=lambda: dict(os.environ))
    stack = SimpleNamespace(environments=environments, routes=[], service_names=[], watch=lambda: None)
    yield stack


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_cancels_the_experiment_then_stops_all(tmp_path: Path, number: int, status: int) -> None:
    demo = Demo(tmp_path, RUN_EXPERIMENT="wait")
    demo.wait_for_call("run_experiment waits")
    os.killpg(demo.process.pid, number)  # the whole foreground group gets it, as from a terminal
    assert demo.end()[0] == status
    calls = demo.calls()
    assert calls.count("run_experiment got SIGINT") == 1
    assert calls.index("run_experiment got SIGINT") < calls.index("worker got SIGTERM")
    assert "report" not in names(calls)


def test_a_signal_while_it_starts_stops_everything(tmp_path: Path) -> None:
    demo = Demo(tmp_path, MIGRATE="wait")
    demo.wait_for_call("migrate waits")
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.end()[0] == 130
    assert "api" not in names(demo.calls())


def test_a_child_that_dies_at_the_start_is_named_with_its_log(tmp_path: Path) -> None:
    demo = Demo(tmp_path, CONTROL="4")
    status, _, errors = demo.end()
    assert status == 1
    assert errors.splitlines()[0] == "control ended with status 4 while starting:"
    assert "run_experiment" not in names(demo.calls())


def test_a_failed_migration_stops_everything(tmp_path: Path) -> None:
    demo = Demo(tmp_path, MIGRATE="1")
    status, _, errors = demo.end()
    assert status == 1
    assert errors.startswith("migrate failed with exit status 1")


def test_a_child_that_dies_in_mid_run_is_started_again(tmp_path: Path) -> None:
    demo = Demo(tmp_path, RUN_EXPERIMENT="wait")
    demo.wait_for_call("run_experiment waits")
    next(child for child in demo.children if "ingest" in command_of(child)).kill()
    wait_for(lambda: demo.calls().count("ingest waits") == 2)
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.end()[0] == 130


def test_when_the_demo_is_killed_its_children_end_too(tmp_path: Path) -> None:
    demo = Demo(tmp_path, RUN_EXPERIMENT="wait")
    demo.wait_for_call("run_experiment waits")
    # Redis, three services, web, control, ingest, beat, experimentd, two workers, the command
    assert len(demo.children) == 12
    demo.process.kill()
    demo.process.communicate()
    wait_for(lambda: not living(demo.children))
    assert not is_locked(demo.var / "lock")
    assert (demo.var / "stack.json").exists(), "the description is stale now; the lock is free"
    StateDir(demo.var).remove_empty_spools()
