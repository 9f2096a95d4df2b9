"""Each instruction becomes one experiment, or is refused with a reason; neither blocks later instructions."""

from __future__ import annotations

import json
import logging
import secrets
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import IntegrityError, OperationalError
from django.test import Client

from experiments.analysis import report
from experiments.instructions import processing
from experiments.instructions.processing import InstructionLoop, process
from experiments.instructions.queue import Entry, InstructionQueue
from experiments.models import Event, Experiment
from experiments.services import experiments as services
from loadgen.protocol.keys import INSTRUCTIONS_KEY, INSTRUCTIONS_PROCESSING_KEY
from tests.support.workers import register

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPT = "spawn exphost squeezenet 2\nrps exphost squeezenet 3\nsleep 4\nevent half way\nsleep 1"


@pytest.fixture(autouse=True)
def workers(broker: redis.Redis) -> None:
    for name in ("exphost", "pico1", "pico2"):
        register(broker, name, labels={"worker_name": name})


def entry_of(pushed: object, instruction_id: str | None = None) -> Entry:
    raw = pushed if isinstance(pushed, bytes) else json.dumps(pushed).encode()
    return Entry(b"", instruction_id or secrets.token_hex(16), raw)


def made_of(pushed: object) -> Experiment:
    process(entry_of(pushed))
    return Experiment.objects.get()


# --- Success ---------------------------------------------------------------------------------------------------------


def test_instruction_becomes_a_queued_experiment() -> None:
    experiment = made_of({"instructions": SCRIPT})
    assert (experiment.status, experiment.name, experiment.creator) == ("QUEUED", "instructions", "experimentd")
    assert experiment.metadata == {"instructions": SCRIPT}
    workload = experiment.workloads.get()
    assert (workload.service, workload.clients, workload.worker_labels) == ("squeezenet", 2, {"worker_name": "exphost"})
    assert workload.spec["schedule"] == [[5.0, 6.0]]
    assert experiment.plan["events"] == [{"at": 4.0, "name": "half", "value": "way"}]
    assert [event.name for event in Event.objects.all()] == ["queued"]


def test_instruction_may_give_id_name_and_creator() -> None:
    experiment = made_of({"instructions": SCRIPT, "exp_id": "baseline-7", "name": "base line", "creator": "carol"})
    assert (experiment.id, experiment.name, experiment.creator) == ("baseline-7", "base line", "carol")
    Experiment.objects.all().delete()
    assert made_of({"instructions": SCRIPT, "exp_id": "baseline-8"}).name == "baseline-8"


def test_pattern_selects_the_matching_live_workers() -> None:
    experiment = made_of({"instructions": "spawn pico[0-9] web 1\nrps pico.* web 1\nsleep 1\nclose pico? web"})
    assert [workload.worker_labels for workload in experiment.workloads.all()] == [
        {"worker_name": "pico1"},
        {"worker_name": "pico2"},
    ]


def test_app_of_the_service_is_used_if_the_controller_has_it(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "squeezenet").mkdir()
    (tmp_path / "squeezenet" / "generator.py").touch()
    settings.SITE = settings.SITE.__class__(**{**vars(settings.SITE), "apps_dir": tmp_path})
    experiment = made_of({"instructions": SCRIPT})
    assert experiment.workloads.get().spec["client_app"] == "squeezenet"


# --- Exactly once -----------------------------------------------------------------------------------------------------


def test_instruction_processed_again_creates_nothing() -> None:
    for pushed in ({"instructions": SCRIPT}, {"instructions": "jump"}, {"instructions": SCRIPT, "exp_id": "x-1"}):
        again = entry_of(pushed)
        process(again)
        process(again)
    assert Experiment.objects.count() == 3
    assert not Event.objects.filter(name="instruction").exists()


@pytest.mark.parametrize("asked", [{}, {"exp_id": "x-1"}])
@pytest.mark.parametrize("script", [SCRIPT, "jump"])
def test_daemon_that_loses_the_race_creates_nothing(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], script: str
) -> None:
    entry = entry_of({"instructions": script, **asked})
    real = processing._plan_of

    def while_another_daemon_makes_it(instruction: Any) -> Any:
        monkeypatch.setattr(processing, "_plan_of", real)
        process(entry)
        return real(instruction)

    monkeypatch.setattr(processing, "_plan_of", while_another_daemon_makes_it)
    process(entry)
    assert Experiment.objects.count() == 1
    assert not Event.objects.filter(name="instruction").exists()


def test_instruction_id_belongs_to_one_experiment() -> None:
    made = made_of({"instructions": SCRIPT})
    with pytest.raises(IntegrityError):
        services.create_failed("again", "x", "why", metadata={}, instruction_id=made.instruction_id)
    assert Experiment.objects.count() == 1


@pytest.mark.parametrize("script", [SCRIPT, "jump"])
def test_taken_id_is_an_event_and_a_log_line(script: str, caplog: pytest.LogCaptureFixture) -> None:
    first = made_of({"instructions": SCRIPT, "exp_id": "x-1"})
    process(entry_of({"instructions": script, "exp_id": "x-1"}))
    assert Experiment.objects.get() == first
    (event,) = Event.objects.filter(name="instruction")
    assert event.value == "another instruction with this id was refused"
    assert "there is an experiment x-1 already; give it another exp_id" in caplog.text


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pushed", "reason"),
    [
        ({"instructions": "sleep 1\njump pi"}, "line 2: unknown command 'jump'; "),
        ({"instructions": "rps exphost web 1"}, "line 1: no clients of web on exphost exist at this point"),
        ({"instructions": "spawn nobody web 1\nrps nobody web 1\nsleep 1"},
         "line 1: no live worker has the label galileo_worker_name=nobody "
         "(there are workers with galileo_worker_name = exphost, pico1, pico2)"),
        ({"instructions": "spawn x* web 1\nrps x* web 1\nsleep 1"},
         "line 1: no live worker's name matches x* (live workers: exphost, pico1, pico2)"),
        ({"instructions": "spawn exphost web many\nrps exphost web 1\nsleep 1"}, "line 1: NUM must be a whole number"),
        ({"instructions": ""}, "script: it spawns no clients"),
        ({}, "instructions: is missing"),
        ({"instructions": 5}, "instructions: must be the text of a script, got 5"),
        ({"instructions": ["sleep 1"]}, "instructions: must be the text of a script, got a list"),
        ({"instructions": "sleep 1\x00"}, "instructions: must not contain NUL or lone surrogates"),
        ({"instructions": "sleep \ud800"}, "instructions: must not contain NUL or lone surrogates"),
        ({"instructions": SCRIPT, "name": 5}, "name: must be a string, got 5"),
        ({"instructions": SCRIPT, "creator": "a\nb"}, "creator: must not contain control characters"),
        ({"instructions": SCRIPT, "exp_id": "a b"}, "exp_id: must have up to 24 letters, digits and -, and not begin"),
        ({"instructions": SCRIPT, "exp_id": "x" * 25}, "exp_id: must have up to 24 letters"),
        ({"instructions": SCRIPT, "exp_id": "-x"}, "exp_id: must have up to 24 letters"),
        ({"instructions": SCRIPT, "exp_id": "pkey"}, "exp_id: is reserved"),
        ({"instructions": SCRIPT, "exp_id": 7}, "exp_id: must be a string, got 7"),
        ({"instructions": SCRIPT, "expid": "x"}, "expid: unknown key; did you mean 'exp_id'?"),
        ({"instructions": SCRIPT, "routing": {"squeezenet": {"hosts": ["evil:80"]}}}, "routing: unknown key"),
        ({"instructions": "spawn exphost web 1 \"\" '{\"path\": 5}'\nrps exphost web 1\nsleep 1"},
         "configuration.workloads[0].client_parameters.path: "),
    ],
    ids=range(21),
)  # fmt: skip
def test_wrong_instruction_is_a_failed_experiment_with_reason(
    pushed: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = made_of(pushed)
    assert experiment.reason in caplog.text
    assert (experiment.status, experiment.final_status) == ("FAILED", "FAILED")
    assert reason in experiment.reason
    (event,) = experiment.events.all()
    assert (event.name, event.value) == ("failed", experiment.reason)
    assert not experiment.workloads.exists()


def test_wrong_instruction_keeps_id_name_and_script() -> None:
    asked = {"instructions": "jump", "exp_id": "x-1", "name": "n", "creator": "c"}
    experiment = made_of(asked)
    assert (experiment.id, experiment.name, experiment.creator) == ("x-1", "n", "c")
    assert experiment.metadata == {"instructions": "jump"}


def test_all_errors_are_reported_at_once() -> None:
    experiment = made_of({"instructions": "jump\nsleep x", "name": 5, "exp_id": "a b"})
    assert experiment.reason.count("; ") >= 3
    assert all(part in experiment.reason for part in ("line 1: ", "line 2: ", "name: ", "exp_id: "))


def test_no_live_worker_fails_the_experiment(broker: redis.Redis) -> None:
    broker.flushall()
    assert made_of({"instructions": SCRIPT}).reason == "no worker is running: start one with `bin/run worker`"


@pytest.mark.parametrize(
    ("pushed", "reason"),
    [
        (b"spawn exphost web 1", "it is not valid JSON: "),
        (b"", "it is not valid JSON: "),
        (b"\xff\xfe", "it is not valid JSON: "),
        (b"[" * 100_000, "it is not valid JSON: "),
        (b'["sleep 1"]', 'must be a mapping like {"instructions": "spawn …"}, got a list'),
        (b"5", "got 5"),
        (b'{"instructions": "' + b"#" * (1 << 20) + b'"}', "it must have at most 1,048,576 bytes"),
    ],
    ids=range(7),
)
def test_unreadable_instruction_is_logged_and_dropped(
    pushed: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    process(entry_of(pushed))
    assert not Experiment.objects.exists()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert reason in record.getMessage()
    assert len(record.getMessage()) < 1000


def test_experiment_without_a_plan_can_be_shown_and_deleted(admin_client: Client) -> None:
    experiment = made_of({"instructions": "jump"})
    assert experiment.reason in report.render(report.build(experiment, [], fresh=True))
    shown = admin_client.get(f"/admin/experiments/experiment/{experiment.id}/change/")
    assert shown.status_code == 200
    answer = admin_client.get(f"/api/experiments/{experiment.id}").json()
    assert (answer["status"], answer["reason"]) == ("FAILED", experiment.reason)
    assert admin_client.delete(f"/api/experiments/{experiment.id}").status_code == 200
    assert not Experiment.objects.exists()


# --- The queue goes on ------------------------------------------------------------------------------------------------


@pytest.fixture
def loop(broker: redis.Redis) -> InstructionLoop:
    return InstructionLoop(InstructionQueue(broker))


def push(broker: redis.Redis, *pushed: object) -> None:
    for each in pushed:
        broker.lpush(INSTRUCTIONS_KEY, each if isinstance(each, bytes) else json.dumps(each))


def left(broker: redis.Redis) -> int:
    return int(broker.llen(INSTRUCTIONS_KEY)) + int(broker.llen(INSTRUCTIONS_PROCESSING_KEY))


def test_wrong_instructions_do_not_block_the_next(broker: redis.Redis, loop: InstructionLoop) -> None:
    push(
        broker,
        b"{",
        {"instructions": "jump", "name": "bad"},
        b"x" * 2_000_000,
        {"instructions": SCRIPT, "name": "good"},
    )
    for _ in range(8):  # for each, one step to take it and one to process it
        loop.step()
    assert left(broker) == 0
    found = Experiment.objects.order_by("created_at").values_list("name", "status")
    assert list(found) == [("bad", "FAILED"), ("good", "QUEUED")]


def test_programming_error_does_not_block_later_instructions(
    broker: redis.Redis, loop: InstructionLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    push(broker, {"instructions": SCRIPT})
    loop.step()
    with monkeypatch.context() as patched:
        patched.setattr(processing, "_plan_of", lambda instruction: 1 / 0)
        loop.step()
    assert "cannot be processed and is dropped" in caplog.text
    push(broker, {"instructions": SCRIPT})
    loop.step()
    loop.step()
    assert (Experiment.objects.count(), left(broker)) == (1, 0)


@pytest.mark.parametrize("error", [OperationalError("away"), redis.ConnectionError("away")])
def test_instruction_waits_for_database_and_redis(
    broker: redis.Redis, loop: InstructionLoop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(_: object) -> None:
        raise error

    push(broker, {"instructions": SCRIPT})
    loop.step()
    with monkeypatch.context() as patched:
        patched.setattr(processing, "sync_workers", lambda: away(None))
        with pytest.raises(type(error)):
            loop.step()
    assert left(broker) == 1
    loop.step()
    assert (Experiment.objects.count(), left(broker)) == (1, 0)
