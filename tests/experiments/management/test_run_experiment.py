"""`manage.py run_experiment`: exit statuses, output and the state of the database."""

from __future__ import annotations

import copy
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from django.core.management import call_command
from django.db import OperationalError

from experiments import selectors
from experiments.management.commands import run_experiment
from experiments.models import Experiment, Worker
from experiments.services import broker
from loadgen.interruption import Interruption
from routing.errors import Code
from tests.experiments.plans.bad_plans import BAD, BAD_FILES, GOOD, WORKLOAD, plan_with
from tests.support.workers import register

pytestmark = pytest.mark.django_db

Steps = list[Callable[[], object]]


class Outcome:
    """How a call of the command ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def run(*arguments: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    status = 0
    try:
        call_command("run_experiment", *map(str, arguments), stdout=out, stderr=err, no_color=True)
    except SystemExit as end:
        status = int(end.code or 0)
    return Outcome(status, out.getvalue(), err.getvalue())


@pytest.fixture
def plan_file(tmp_path: Path) -> Callable[..., Path]:
    def write(data: Any = GOOD) -> Path:
        path = tmp_path / "plan.yml"
        path.write_bytes(data if isinstance(data, bytes) else yaml.safe_dump(data, sort_keys=False).encode())
        return path

    return write


@pytest.fixture
def fleet(broker: redis.Redis) -> None:
    register(broker, "pi-1")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """What happens while the command waits: one step each time. It never waits longer than there are steps."""
    pending: Steps = []
    wait = Interruption.wait

    def next_step(interruption: Interruption, seconds: float) -> None:
        pending.pop(0)()
        wait(interruption, 0)

    monkeypatch.setattr(Interruption, "wait", next_step)
    monkeypatch.setattr(run_experiment, "CANCEL_CHECK_S", 0.0)
    yield pending
    assert not pending


def set_to(**fields: Any) -> Callable[[], object]:
    return lambda: Experiment.objects.update(**fields)


def started(seconds_ago: float = 0.0) -> Callable[[], object]:
    return lambda: Experiment.objects.update(
        status="RUNNING", start_broker_ns=broker.broker_now_ns() - int(seconds_ago * 1e9)
    )


FINISHED = {
    "status": "FINISHED",
    "final_status": "FINISHED",
    "summary": {"verdict": {"status": "VALID", "reasons": []}},
}


# --- plans ------------------------------------------------------------------------------------------------------------

# A number of thousands of digits cannot be written by `safe_dump`; one is in a file further below.
WRITABLE = [row for row in BAD if all(not isinstance(value, int) or abs(value) < 10**100 for value in row[0].values())]


@pytest.mark.parametrize(("changes", "path", "code"), WRITABLE[::5], ids=lambda value: "")
def test_an_invalid_plan_exits_2_with_every_error(
    plan_file: Callable[..., Path], changes: dict[str, Any], path: str, code: Code
) -> None:
    ended = run(plan_file(plan_with(changes)))
    assert ended.status == 2
    assert ended.out == ""
    assert [line.partition(": ")[0] for line in ended.err.splitlines()] == [path]
    assert not Experiment.objects.exists()


@pytest.mark.parametrize(("text", "code"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_an_unreadable_plan_exits_2(plan_file: Callable[..., Path], text: bytes, code: Code) -> None:
    ended = run(plan_file(text))
    assert ended.status == 2
    assert [line.partition(": ")[0] for line in ended.err.splitlines()] == ["plan"]
    assert not Experiment.objects.exists()


@pytest.mark.parametrize("number", [".nan", ".inf", "-1", "1e400", "9" * 5000, "true", "'5'"])
def test_a_file_with_a_wrong_rate_exits_2(plan_file: Callable[..., Path], number: str) -> None:
    text = f"configuration: {{duration: 1s, interval: 1s, workloads: [{{service: web, ticks: [{number}]}}]}}"
    ended = run(plan_file(text.encode()))
    assert ended.status == 2
    assert ended.err.startswith("configuration.workloads[0].ticks[0]: ")


@pytest.mark.parametrize("path", ["missing.yml", "."])
def test_a_file_that_cannot_be_read_exits_2(tmp_path: Path, path: str) -> None:
    ended = run(tmp_path / path)
    assert ended.status == 2
    assert "cannot be read" in ended.err


@pytest.mark.parametrize("route", ["web", "=a:1", "web=", "web=a:1@x"])
def test_a_route_of_another_form_exits_2(plan_file: Callable[..., Path], route: str) -> None:
    ended = run(plan_file(), "--route", route)
    assert ended.status == 2
    assert ended.err.startswith("--route: ")


def test_the_hosts_of_a_route_are_checked_with_the_plan(plan_file: Callable[..., Path]) -> None:
    ended = run(plan_file(plan_with({"seed": -1})), "--route", "web=a:1@1,a:99999@2")
    assert ended.status == 2
    assert [line.split(": ")[0] for line in ended.err.splitlines()] == ["routing[0].hosts[1]", "seed"]


def test_an_invalid_plan_is_one_json_object_too(plan_file: Callable[..., Path]) -> None:
    ended = run(plan_file(plan_with({"seed": -1})), "--json")
    assert ended.status == 2
    answer = json.loads(ended.out)
    assert (answer["id"], answer["status"]) == (None, None)
    assert answer["errors"][0].startswith("seed: ")


# --- workers ----------------------------------------------------------------------------------------------------------


def test_a_label_without_workers_exits_3(plan_file: Callable[..., Path], fleet: None) -> None:
    ended = run(plan_file(plan_with({f"{WORKLOAD}.worker_labels": {"galileo_zone": "Z"}})), "--wait")
    assert ended.status == 3
    assert "galileo_zone=Z" in ended.err
    assert not Experiment.objects.exists()


def test_without_a_worker_it_exits_3(plan_file: Callable[..., Path], broker: redis.Redis) -> None:
    ended = run(plan_file())
    assert ended.status == 3
    assert "no worker is running" in ended.err


def test_too_few_slots_exit_3_with_the_figures(plan_file: Callable[..., Path], broker: redis.Redis) -> None:
    register(broker, "pi-1", slots=8)
    data = plan_with({})
    (workload,) = data["configuration"]["workloads"]
    data["configuration"]["workloads"] = [copy.deepcopy(workload) for _ in range(45)]
    ended = run(plan_file(data))
    assert ended.status == 3
    assert "45 of the plan's 45 workloads" in ended.err
    assert not Experiment.objects.exists()


def test_without_a_broker_it_exits_1(plan_file: Callable[..., Path]) -> None:
    ended = run(plan_file())
    assert ended.status == 1
    assert "the broker does not answer" in ended.err
    assert not Experiment.objects.exists()


# --- without waiting --------------------------------------------------------------------------------------------------


def test_without_wait_the_id_is_printed(plan_file: Callable[..., Path], fleet: None, tmp_path: Path) -> None:
    ended = run(plan_file(), "--id-file", tmp_path / "id")
    experiment = Experiment.objects.get()
    assert (ended.status, ended.lines, ended.err) == (0, [experiment.id], "")
    assert (tmp_path / "id").read_text() == f"{experiment.id}\n"
    assert experiment.status == "QUEUED"


def test_a_plan_comes_from_standard_input(fleet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(GOOD).encode())))
    assert run("-").status == 0
    assert Experiment.objects.get().name == "good"


def test_routes_add_to_and_replace_those_of_the_plan(plan_file: Callable[..., Path], fleet: None) -> None:
    routing = [{"service": "web", "hosts": ["old:1"]}, {"service": "db", "hosts": ["db:1"]}]
    for given in (routing, {item["service"]: {"hosts": item["hosts"]} for item in routing}):
        path = plan_file(plan_with({"routing": given}))
        assert run(path, "--route", "web=a:1@1,b:2@2.5", "--route", "new=[::1]:3").status == 0
        stored = Experiment.objects.first()
        assert stored is not None
        assert stored.plan["routing"] == {
            "web": {"hosts": ["a:1", "b:2"], "weights": [1, 2.5]},
            "db": {"hosts": ["db:1"], "weights": [1]},
            "new": {"hosts": ["[::1]:3"], "weights": [1]},
        }
        Experiment.objects.all().delete()


def test_the_creator_is_the_option_or_the_plans_or_the_user(plan_file: Callable[..., Path], fleet: None) -> None:
    run(plan_file(), "--creator", "bob")
    run(plan_file())
    run(plan_file(plan_with({"experiment": None})))
    creators = [experiment.creator for experiment in Experiment.objects.order_by("created_at")]
    assert creators[:2] == ["bob", "alice"]
    assert creators[2]


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_a_finished_experiment_exits_0(plan_file: Callable[..., Path], fleet: None, steps: Steps) -> None:
    steps += [set_to(status="STARTING"), started(1.0), set_to(status="FINALIZING"), set_to(**FINISHED)]
    ended = run(plan_file(), "--wait")
    experiment_id = Experiment.objects.get().id
    phases = [line.split()[1] for line in ended.lines[:-1]]
    assert (ended.status, phases) == (0, ["QUEUED", "STARTING", "RUNNING", "FINALIZING", "FINISHED"])
    assert "rate - of 1.0/s planned, response time p50 -" in ended.lines[2]
    assert ended.lines[-1] == f"FINISHED, verdict VALID; report: manage.py report {experiment_id}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_block_is_redrawn_in_place(
    plan_file: Callable[..., Path], fleet: None, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    steps += [lambda: None] * 50
    steps += [started(1.0), set_to(**FINISHED)]
    call_command("run_experiment", str(plan_file()), "--wait")
    shown = terminal.getvalue()
    assert "achieved" in shown
    assert shown.count("QUEUED") == 51
    assert shown.count("\n") < 20
    assert "FINISHED, verdict VALID" in shown.splitlines()[-1]


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
def test_another_end_exits_1_with_the_reason(
    plan_file: Callable[..., Path], fleet: None, steps: Steps, status: str
) -> None:
    steps += [set_to(status=status, final_status=status, reason="every shard was lost")]
    ended = run(plan_file(), "--wait")
    assert ended.status == 1
    assert ended.lines[-1].startswith(f"{status} (every shard was lost), verdict none; report: manage.py report 2")


def test_an_experiment_that_someone_deletes_exits_1(plan_file: Callable[..., Path], fleet: None, steps: Steps) -> None:
    steps += [lambda: Experiment.objects.all().delete()]
    ended = run(plan_file(), "--wait")
    assert ended.status == 1
    assert ended.lines[-1].endswith("was deleted")


def test_json_is_one_object_and_nothing_else(plan_file: Callable[..., Path], fleet: None, steps: Steps) -> None:
    steps += [started(), set_to(**FINISHED)]
    ended = run(plan_file(), "--wait", "--json")
    assert json.loads(ended.out) == {
        "id": Experiment.objects.get().id,
        "status": "FINISHED",
        "verdict": "VALID",
        "summary": FINISHED["summary"],
        "errors": [],
    }
    assert (ended.status, len(ended.lines), ended.err) == (0, 1, "")


def test_a_database_that_is_away_for_a_while_is_waited_for(
    plan_file: Callable[..., Path], fleet: None, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, away = selectors.experiment_status, [True, True]

    def sometimes(experiment_id: str) -> Experiment | None:
        if away:
            away.pop()
            raise OperationalError("server closed the connection")
        return look(experiment_id)

    monkeypatch.setattr(selectors, "experiment_status", sometimes)
    monkeypatch.setattr(run_experiment.connection, "close", lambda: None)
    steps += [lambda: None, lambda: None, set_to(**FINISHED)]
    assert run(plan_file(), "--wait").status == 0


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_cancels_the_experiment_and_exits_130(
    plan_file: Callable[..., Path], fleet: None, steps: Steps, number: int
) -> None:
    before = signal.getsignal(number)
    steps += [lambda: os.kill(os.getpid(), number)]
    ended = run(plan_file(), "--wait")
    experiment = Experiment.objects.get()
    assert ended.status == 130
    assert (experiment.status, experiment.reason) == (
        "CANCELLED", f"interrupted: run_experiment got {signal.Signals(number).name}"
    )  # fmt: skip
    assert ended.lines[-1] == f"interrupted; experiment {experiment.id} is CANCELLED, its load has stopped"
    assert signal.getsignal(number) == before


def test_an_interrupted_run_is_one_json_object_too(plan_file: Callable[..., Path], fleet: None, steps: Steps) -> None:
    steps += [lambda: os.kill(os.getpid(), signal.SIGINT)]
    ended = run(plan_file(), "--wait", "--json")
    assert ended.status == 130
    assert json.loads(ended.out)["status"] == "CANCELLED"


def test_a_slow_end_is_reported_as_ending(
    plan_file: Callable[..., Path], fleet: None, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_experiment, "CANCEL_WAIT_S", 0.05)
    steps += [started(), lambda: os.kill(os.getpid(), signal.SIGINT)]
    ended = run(plan_file(), "--wait")
    assert ended.status == 130
    assert ended.lines[-1].endswith("is cancelled and ending")
    assert (Experiment.objects.get().status, Experiment.objects.get().final_status) == ("FINALIZING", "CANCELLED")


def test_an_early_interruption_creates_no_experiment(
    plan_file: Callable[..., Path], fleet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = run_experiment.services.check_workers

    def interrupted_check(plan: Any) -> None:
        check(plan)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(run_experiment.services, "check_workers", interrupted_check)
    ended = run(plan_file(), "--wait")
    assert ended.status == 130
    assert "no experiment was created" in ended.err
    assert not Experiment.objects.exists()
    assert Worker.objects.exists()
