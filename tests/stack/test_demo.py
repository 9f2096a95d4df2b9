"""`demo`: what it runs, how it exits, and that it always stops everything. Galileo's own processes are stand-ins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from galileo_site.stack import ports
from galileo_site.stack.state import StateDir, is_locked
from tests.stack.waiting import living, wait_for

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


def test_a_demo_starts_everything_runs_the_experiment_reports_and_stops(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    status, output, errors = demo.end()
    assert (status, errors) == (0, "")
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


def test_workers_stop_first_and_only_after_the_experiment(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.end()
    ends = [call.split()[0] for call in demo.calls() if "got SIGTERM" in call]
    assert ends[:2] == ["worker", "worker"]
    assert sorted(ends[2:]) == ["api", "beat", "control", "experimentd", "ingest"]
    assert names(demo.calls()).index("report") < demo.calls().index("worker got SIGTERM")


@pytest.mark.parametrize(("run", "report", "expected"), [("1", "0", 1), ("3", "0", 3), ("0", "1", 1), ("2", "1", 2)])
def test_the_exit_status_is_zero_only_if_run_and_report_are_content(
    tmp_path: Path, run: str, report: str, expected: int
) -> None:
    demo = Demo(tmp_path, RUN_EXPERIMENT=run, REPORT=report)
    assert demo.end()[0] == expected
    assert "report" in names(demo.calls()), "a failed experiment is reported, too"


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_a_signal_cancels_the_experiment_first_and_stops_everything(tmp_path: Path, number: int, status: int) -> None:
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


def test_a_child_that_dies_while_starting_is_said_with_its_log_and_stops_everything(tmp_path: Path) -> None:
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
    next(child for child in demo.children if "ingest" in child.cmdline()).kill()
    wait_for(lambda: demo.calls().count("ingest waits") == 2)
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.end()[0] == 130


def test_when_the_demo_is_killed_its_children_end_too(tmp_path: Path) -> None:
    demo = Demo(tmp_path, RUN_EXPERIMENT="wait")
    demo.wait_for_call("run_experiment waits")
    assert (
        len(demo.children) == 12
    )  # Redis, three services, web, control, ingest, beat, experimentd, two workers, the command
    demo.process.kill()
    demo.process.communicate()
    wait_for(lambda: not living(demo.children))
    assert not is_locked(demo.var / "lock")
    assert (demo.var / "stack.json").exists(), "the description is stale now, and nobody believes it"
    StateDir(demo.var).remove_empty_spools()
