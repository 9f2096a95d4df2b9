"""An experiment is cancelled over the API, and its summary read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.test import Client

from experiments.analysis.summary import summarise
from experiments.models import ClientGroup, Event, Experiment
from experiments.services import experiments, interactive
from experiments.services.reconcile import reconcile
from loadgen.protocol.enums import ShardState
from loadgen.protocol.topics import MAX_EVENT_VALUE
from tests.support import batches
from tests.support.fleet import Fleet
from tests.support.plans import plan

pytestmark = pytest.mark.django_db

JSON = "application/json"
UNKNOWN = "202611220000-abcd"


def cancel(api: Client, experiment_id: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body)
    return api.post(f"/api/experiments/{experiment_id}/cancel", data, content_type=JSON)


def cancelled(experiment: Experiment) -> list[str]:
    return list(Event.objects.filter(experiment=experiment, name="cancelled").values_list("value", flat=True))


# --- cancel -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "cancelled by admin"),
        ({}, "cancelled by admin"),
        ({"reason": " "}, "cancelled by admin"),
        ({"reason": "the lab closes"}, "cancelled by admin: the lab closes"),
    ],
)
def test_a_queued_one_is_cancelled_at_once_and_stays(
    api: Client, broker: redis.Redis, body: dict[str, str] | None, reason: str
) -> None:
    experiment = experiments.create(plan(), "tester")
    answer = cancel(api, experiment.id, body)
    said = answer.json()
    assert (answer.status_code, said["id"], said["status"], said["deleting"]) == (
        200, experiment.id, "CANCELLED", False,
    )  # fmt: skip
    experiment.refresh_from_db()
    assert (experiment.reason, cancelled(experiment)) == (reason, [reason])


@pytest.mark.django_db(transaction=True)  # what is sent is sent after the commit
def test_cancelling_stops_the_load_and_keeps_results(api: Client, fleet: Fleet, make_experiment: Any) -> None:
    fleet.join("pi-1")
    experiment = make_experiment()
    reconcile()
    fleet.say(ShardState.READY)
    reconcile()
    answer = cancel(api, experiment.id, {"reason": "enough"})
    assert (answer.status_code, answer.json()["status"], answer.json()["phase"]) == (202, "IN_PROGRESS", "FINALIZING")
    assert ClientGroup.objects.get().state == "stop"
    fleet.say(ShardState.STOPPED, "stopped")
    fleet.bring_batches()
    reconcile()
    shown = api.get(f"/api/experiments/{experiment.id}").json()
    assert (shown["status"], shown["reason"]) == ("CANCELLED", "cancelled by admin: enough")
    assert [event["value"] for event in shown["events"] if event["name"] == "cancelled"] == [shown["reason"]]
    assert api.get(f"/api/experiments/{experiment.id}/summary").status_code == 200


def test_a_second_cancel_keeps_the_first_reason(api: Client, broker: redis.Redis) -> None:
    experiment = experiments.create(plan(), "tester")
    first, second = (cancel(api, experiment.id, {"reason": reason}) for reason in ("one", "two"))
    assert (first.status_code, second.status_code, first.json()) == (200, 200, second.json())
    assert cancelled(experiment) == ["cancelled by admin: one"]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "CANCELLED"])
def test_an_ended_one_answers_its_state(api: Client, broker: redis.Redis, status: str) -> None:
    experiment = batches.make_experiment(status=status)
    answer = cancel(api, experiment.id)
    assert (answer.status_code, answer.json()["status"]) == (200, status)
    assert not cancelled(experiment)


def test_an_ending_experiment_is_not_cancelled(api: Client, broker: redis.Redis) -> None:
    experiment = batches.make_experiment(status="FINALIZING")
    assert cancel(api, experiment.id).status_code == 202
    experiment.refresh_from_db()
    assert (experiment.status, experiment.final_status) == ("FINALIZING", "FINISHED")


def test_an_interactive_one_is_cancelled(api: Client, broker: redis.Redis) -> None:
    experiment = interactive.start("by hand", "tester", {})
    assert cancel(api, experiment.id).status_code == 202
    reconcile()
    experiment.refresh_from_db()
    assert experiment.status == "CANCELLED"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": 5 * ["x"]}, "reason"),
        ({"reason": 5}, "reason"),
        ({"reason": "x" * (MAX_EVENT_VALUE + 1)}, "reason"),
        ({"reason": "nul\0"}, "reason"),
        ({"why": "x"}, "why"),
        ([], "body"),
        ("enough", "body"),
    ],
)
def test_a_wrong_body_is_named_and_nothing_is_stopped(api: Client, broker: redis.Redis, body: Any, field: str) -> None:
    experiment = experiments.create(plan(), "tester")
    answer = cancel(api, experiment.id, body)
    assert answer.status_code == 400
    assert field in [error["field"] for error in answer.json()["errors"]]
    experiment.refresh_from_db()
    assert experiment.status == "QUEUED"


def test_it_takes_the_permission_to_change_experiments(client: Client, broker: redis.Redis) -> None:
    experiment = experiments.create(plan(), "tester")
    user = User.objects.create_user("somebody")
    for name in ("view_experiment", "add_experiment", "delete_experiment"):
        user.user_permissions.add(Permission.objects.get(codename=name))
    client.force_login(user)
    assert cancel(client, experiment.id).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="change_experiment"))
    assert cancel(client, experiment.id).status_code == 200


@pytest.mark.parametrize("part", ["cancel", "summary", "series", "captures"])
def test_an_unknown_experiment_is_a_404(api: Client, broker: redis.Redis, part: str) -> None:
    answer = cancel(api, UNKNOWN) if part == "cancel" else api.get(f"/api/experiments/{UNKNOWN}/{part}")
    assert answer.status_code == 404
    assert UNKNOWN in answer.json()["detail"]


# --- summary ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_summary_is_the_stored_one(api: Client, broker: redis.Redis, slash: str) -> None:
    experiment = batches.make_experiment(status="FINISHED")
    Experiment.objects.update(summary=summarise(experiment))
    shown = api.get(f"/api/experiments/{experiment.id}/summary{slash}").json()
    experiment.refresh_from_db()
    assert shown == experiment.summary
    assert shown["verdict"]["status"] == "INVALID"


@pytest.mark.parametrize(
    ("status", "reason", "sentence"),
    [
        ("QUEUED", "", "is QUEUED"),
        ("RUNNING", "", "is RUNNING"),
        ("FAILED", "no such host", "FAILED without a summary: no such host."),
        ("CANCELLED", "", "CANCELLED without a summary."),
    ],
)
def test_a_missing_summary_is_a_404_with_the_reason(api: Client, status: str, reason: str, sentence: str) -> None:
    experiment = batches.make_experiment(status=status)
    Experiment.objects.update(reason=reason)
    answer = api.get(f"/api/experiments/{experiment.id}/summary")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert sentence in answer.json()["detail"]
