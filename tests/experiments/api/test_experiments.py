"""Experiments over the API: authentication, responses and errors."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urljoin

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.test import Client

from experiments.api.index import document
from experiments.models import Event, Experiment, Shard, Worker
from experiments.services import experiments, workers
from routing.errors import Code
from tests.experiments.plans.bad_plans import BAD, CLOSED_WORKLOAD, GOOD, MISSING, QUEUED, WORKLOAD, plan_with
from tests.support import batches
from tests.support.messages import errors_of
from tests.support.plans import plan
from tests.support.workers import register

pytestmark = pytest.mark.django_db

JSON = "application/json"
EXPERIMENTS = "/api/experiments"


@pytest.fixture
def fleet(broker: redis.Redis) -> None:
    register(broker, "pi-1")


def post(api: Client, data: Any) -> Any:
    return api.post(EXPERIMENTS, json.dumps(data), content_type=JSON)


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api", "/api/experiments", "/api/experiments/202611220000-abcd", "/api/workers"])
def test_credentials_are_required(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert "detail" in answer.json()


def test_a_wrong_token_is_refused(client: Client) -> None:
    assert client.get("/api", headers={"Authorization": "Token nonsense"}).status_code == 401


def test_a_user_needs_the_permissions_of_the_models(client: Client, broker: redis.Redis) -> None:
    user = User.objects.create_user("reader")
    client.force_login(user)
    assert client.get("/api").status_code == 200
    assert client.get(EXPERIMENTS).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_experiment"))
    assert client.get(EXPERIMENTS).status_code == 200
    assert client.post(EXPERIMENTS, json.dumps(GOOD), content_type=JSON).status_code == 403
    assert client.delete(f"{EXPERIMENTS}/202611220000-abcd").status_code == 403
    assert not Experiment.objects.exists()


# --- experiments ------------------------------------------------------------------------------------------------------


def test_the_index_lists_each_documented_path_once(api: Client) -> None:
    listed = api.get("/api").json()
    assert [route["uri"] for route in listed] == sorted(document()["paths"])
    assert {"/api/groups/{group_id}/command", "/api/workers/{name}", "/api/docs"} <= {route["uri"] for route in listed}
    assert all(route["type"].endswith("Resource") for route in listed)


@pytest.mark.parametrize("path", ["/api/", "/api/experiments/", "/api/worker/", "/api/workers/"])
def test_a_trailing_slash_makes_no_difference(api: Client, path: str) -> None:
    assert api.get(path).json() == api.get(path.rstrip("/")).json()


def test_a_closed_plan_is_queued_and_shown_as_it_was_meant(api: Client, fleet: None) -> None:
    data = plan_with({WORKLOAD: {**CLOSED_WORKLOAD, "think_time": "20ms", "shards_per_worker": 2}})
    shown = api.get(f"{EXPERIMENTS}/{post(api, data).json()}").json()
    (workload,) = shown["plan"]["configuration"]["workloads"]
    assert (workload["model"], workload["clients"], workload["shards_per_worker"]) == ("closed", [1, 3, 0], 2)
    assert "ticks" not in workload


@pytest.mark.parametrize("path", [EXPERIMENTS, EXPERIMENTS + "/"])
def test_a_plan_is_queued_and_answered_with_its_id(api: Client, fleet: None, path: str) -> None:
    answer = api.post(path, json.dumps({"configuration": GOOD["configuration"]}), content_type=JSON)
    experiment = Experiment.objects.get()
    assert (answer.status_code, answer.json()) == (201, experiment.id)
    assert urljoin(path, answer["Location"]) == f"/api/experiments/{experiment.id}"
    assert (experiment.name, experiment.creator, experiment.status) == ("experiment", "admin", "QUEUED")
    assert experiment.workloads.get().spec["schedule"] == [[4.0, 1], [4.0, 2.5], [2.0, 0]]


def test_the_creator_of_a_plan_is_kept(api: Client, fleet: None) -> None:
    post(api, GOOD)
    assert Experiment.objects.get().creator == "alice"


def test_the_list_has_the_originals_words_and_our_phases(api: Client) -> None:
    made = [batches.make_experiment(status=status) for status in ("QUEUED", "RUNNING", "FINISHED")]
    listed = {item["id"]: item for item in api.get(EXPERIMENTS).json()}
    assert {(item["status"], item["phase"]) for item in listed.values()} == {
        ("QUEUED", "QUEUED"), ("IN_PROGRESS", "RUNNING"), ("FINISHED", "FINISHED"),
    }  # fmt: skip
    first = listed[made[0].id]
    assert first["created"] == made[0].created_at.timestamp()
    assert first["end"] is None
    assert set(first) == {"id", "name", "creator", "status", "phase", "deleting", "created", "start", "end"}


@pytest.mark.parametrize("status", ["STARTING", "RUNNING", "FINALIZING"])
def test_the_list_is_filtered_by_the_originals_words(api: Client, status: str) -> None:
    active, _ = batches.make_experiment(status=status), batches.make_experiment(status="FAILED")
    assert [item["id"] for item in api.get(f"{EXPERIMENTS}?status=IN_PROGRESS").json()] == [active.id]


def test_an_unknown_status_is_named(api: Client) -> None:
    answer = api.get(f"{EXPERIMENTS}?status=running")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "status"


def test_an_experiment_is_shown_with_its_plan_and_timeline(api: Client, broker: redis.Redis) -> None:
    experiment = experiments.create(plan(metadata={"purpose": "test"}), "tester")
    shown = api.get(f"{EXPERIMENTS}/{experiment.id}").json()
    assert (shown["seed"], shown["metadata"], shown["summary"]) == (7, {"purpose": "test"}, None)
    assert shown["plan"] == experiment.plan
    assert [event["name"] for event in shown["events"]] == ["queued"]
    assert shown["recording"] is None
    assert isinstance(shown["events"][0]["timestamp"], float)


@pytest.mark.parametrize("method", ["get", "delete"])
@pytest.mark.parametrize("name", ["202611220000-abcd", "x/y", "%00", "a" * 100, "ä"])
def test_an_unknown_experiment_is_not_found(api: Client, method: str, name: str) -> None:
    answer = getattr(api, method)(f"{EXPERIMENTS}/{name}")
    assert answer.status_code == 404
    assert "detail" in answer.json()


def test_a_queued_experiment_is_removed(api: Client, broker: redis.Redis) -> None:
    experiment = experiments.create(plan(), "tester")
    answer = api.delete(f"{EXPERIMENTS}/{experiment.id}/")
    assert (answer.status_code, answer.json()) == (200, experiment.id)
    assert not Experiment.objects.exists()
    assert not Event.objects.exists()


def test_deleting_an_active_experiment_stops_it_first(api: Client, broker: redis.Redis) -> None:
    experiment = experiments.create(plan(), "tester")
    Experiment.objects.update(status="RUNNING")
    answer = api.delete(f"{EXPERIMENTS}/{experiment.id}")
    assert answer.status_code == 202
    assert answer.json() == experiment.id
    shown = api.get(f"{EXPERIMENTS}/{experiment.id}").json()
    assert (shown["status"], shown["phase"], shown["deleting"]) == ("IN_PROGRESS", "FINALIZING", True)
    experiment.refresh_from_db()
    assert (experiment.status, experiment.final_status) == ("FINALIZING", "CANCELLED")


def test_an_ended_experiment_is_removed(api: Client, broker: redis.Redis) -> None:
    experiment = batches.make_experiment(status="FINISHED")
    answer = api.delete(f"{EXPERIMENTS}/{experiment.id}")
    assert (answer.status_code, answer.json()) == (200, experiment.id)
    assert not Experiment.objects.exists()


# --- workers ----------------------------------------------------------------------------------------------------------


def test_live_workers_are_listed_with_the_slots_that_are_in_use(api: Client, broker: redis.Redis) -> None:
    for name in ("pi-1", "pi-2", "pi-3"):
        register(broker, name)
    workers.sync_workers()
    Worker.objects.filter(name="pi-3").update(status="LOST")
    experiment = batches.make_experiment(shards=3, workers=("pi-1", "pi-1", "pi-2"))
    Shard.objects.filter(group__experiment=experiment, worker__name="pi-2").update(status="FINISHED")
    listed = api.get("/api/workers").json()
    assert [(item["name"], item["slots"], item["used_slots"]) for item in listed] == [("pi-1", 4, 2), ("pi-2", 4, 0)]
    assert listed[0]["labels"] == {"zone": "A", "worker_name": "pi-1"}
    assert listed[0]["clock_uncertainty_ns"] == 1000
    assert {"cores", "memory_bytes", "status", "heartbeat"} <= set(listed[0])


# --- bad requests -----------------------------------------------------------------------------------------------------


def is_json(data: Any) -> bool:
    try:
        json.dumps(data, allow_nan=False)
    except ValueError:  # NaN, infinity, and numbers of thousands of digits
        return False
    return True


SENDABLE = [row for row in BAD if MISSING not in row[0].values() and is_json(row[0])]


@pytest.mark.parametrize(("changes", "path", "code"), SENDABLE[::4], ids=lambda value: "")
def test_an_invalid_plan_is_refused_with_every_error(
    api: Client, changes: dict[str, Any], path: str, code: Code
) -> None:
    answer = post(api, plan_with(changes))
    assert answer.status_code == 400
    assert [(error["field"], error["code"]) for error in answer.json()["errors"]] == [(path, code)]
    assert not Experiment.objects.exists()


@pytest.mark.parametrize("body", ["5", "[]", '"plan"', "null", "true"])
def test_a_plan_must_be_an_object(api: Client, body: str) -> None:
    answer = api.post(EXPERIMENTS, body, content_type=JSON)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"].startswith("must be a mapping")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", ("configuration", "required")),
        (b"{", ("body", "unreadable")),
        (b'{"a": NaN}', ("body", "unreadable")),
        (b'{"a": -Infinity}', ("body", "unreadable")),
        (b'{"a": 1, "a": 2}', ("body", "duplicate")),
        (b"\xff\xfe", ("body", "unreadable")),
        (b"[" * 100_000, ("body", "unreadable")),
        (b'{"seed": ' + b"9" * 10_000 + b"}", ("body", "unreadable")),
        (b'{"seed": 1e999}', ("seed", "type")),
    ],
    ids=range(9),
)
def test_malformed_json_is_refused(api: Client, body: bytes, error: tuple[str, str]) -> None:
    answer = api.post(EXPERIMENTS, body, content_type=JSON)
    assert answer.status_code == 400
    assert error in errors_of(answer)


def test_a_body_that_is_too_large_is_a_413(api: Client) -> None:
    answer = api.post(EXPERIMENTS, b'{"metadata": "' + b"x" * (1 << 20) + b'"}', content_type=JSON)
    assert answer.status_code == 413


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/yaml", "multipart/form-data; boundary=x"])
def test_another_content_type_is_a_415(api: Client, kind: str) -> None:
    answer = api.post(EXPERIMENTS, "configuration=1", content_type=kind)
    assert answer.status_code == 415
    assert "detail" in answer.json()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("put", EXPERIMENTS),
        ("delete", EXPERIMENTS),
        ("post", "/api/worker"),
        ("post", "/api/workers"),
        ("patch", "/api"),
        ("post", f"{EXPERIMENTS}/202611220000-abcd"),
    ],
)
def test_another_method_is_a_405(api: Client, method: str, path: str) -> None:
    answer = getattr(api, method)(path, "{}", content_type=JSON)
    assert answer.status_code == 405
    assert "Allow" in answer.headers
    assert "detail" in answer.json()


def test_another_path_is_a_404_in_json(api: Client) -> None:
    answer = api.get("/api/nothing/here")
    assert answer.status_code == 404
    assert "/api/nothing/here" in answer.json()["detail"]


def test_a_plan_without_matching_workers_is_a_503(api: Client, fleet: None) -> None:
    answer = post(api, plan_with({f"{WORKLOAD}.worker_labels": {"galileo_zone": "Z"}}))
    assert answer.status_code == 503
    assert "galileo_zone=Z" in answer.json()["detail"]
    assert not Experiment.objects.exists()


def test_a_plan_with_queue_placement_needs_no_worker_yet(api: Client, fleet: None) -> None:
    workload = {"service": "web", "ticks": [1, 2.5, 0], **QUEUED}
    answer = post(api, plan_with({WORKLOAD: workload}))
    assert answer.status_code == 201
    stored = Experiment.objects.get(id=answer.json()).plan["configuration"]["workloads"][0]
    assert {key: stored.get(key) for key in (*QUEUED, "shards_per_worker")} == {**QUEUED, "shards_per_worker": None}


def test_without_a_broker_a_plan_is_a_503(api: Client) -> None:
    answer = post(api, GOOD)
    assert answer.status_code == 503
    assert "broker" in answer.json()["detail"]


def test_a_plan_that_needs_more_slots_than_there_are_is_a_503(api: Client, broker: redis.Redis) -> None:
    register(broker, "pi-1", slots=8)
    data = plan_with({})
    data["configuration"]["workloads"] = [dict(data["configuration"]["workloads"][0]) for _ in range(45)]
    answer = post(api, data)
    assert answer.status_code == 503
    assert "45 of the plan's 45 workloads can run on pi-1 only" in answer.json()["detail"]
    assert "together have 8" in answer.json()["detail"]
    assert not Experiment.objects.exists()


# --- plans that set routes --------------------------------------------------------------------------------------------

ROUTING = {"routing": {"web": {"hosts": ["127.0.0.1:9"]}}}


def planner(client: Client, *codenames: str) -> Client:
    user = User.objects.create_user("planner")
    user.user_permissions.set(Permission.objects.filter(codename__in=["add_experiment", *codenames]))
    client.force_login(user)
    return client


@pytest.mark.parametrize(
    ("codenames", "missing"),
    [
        ((), "permissions routing.add_routingrecord, routing.change_routingrecord:"),
        (("add_routingrecord",), "permissions routing.change_routingrecord:"),
        (("change_routingrecord", "view_routingrecord"), "permissions routing.add_routingrecord:"),
    ],
)
def test_a_plan_with_routes_needs_the_permissions_of_routes(
    client: Client, fleet: None, codenames: tuple[str, ...], missing: str
) -> None:
    answer = post(planner(client, *codenames), plan_with(ROUTING))
    assert answer.status_code == 403
    assert missing in answer.json()["detail"] and "remove `routing`" in answer.json()["detail"]
    assert not Experiment.objects.exists()


def test_a_user_with_both_permissions_may_set_routes(client: Client, fleet: None) -> None:
    answer = post(planner(client, "add_routingrecord", "change_routingrecord"), plan_with(ROUTING))
    assert answer.status_code == 201
    assert Experiment.objects.get().plan["routing"]["web"]["hosts"] == ["127.0.0.1:9"]


@pytest.mark.parametrize("changes", [{"routing": {}}, {"routing": []}, {"routing": None}, {"routing": MISSING}])
def test_a_plan_without_routes_needs_no_such_permission(client: Client, fleet: None, changes: dict[str, Any]) -> None:
    data = plan_with({name: value for name, value in changes.items() if value is not MISSING})
    if changes["routing"] is MISSING:
        data.pop("routing", None)
    assert post(planner(client), data).status_code == 201
