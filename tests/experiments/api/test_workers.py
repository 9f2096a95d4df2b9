"""Workers over the API: one of them, and the round trips."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.test import Client

from experiments.models import Worker
from experiments.services import workers
from tests.support.workers import register

pytestmark = pytest.mark.django_db

JSON = "application/json"


@pytest.fixture
def registered(broker: redis.Redis) -> None:
    for name in ("pi-1", "pi-2"):
        register(broker, name)
    workers.sync_workers()


def ping(api: Client, body: Any = None) -> Any:
    return api.post("/api/worker/ping", None if body is None else json.dumps(body), content_type=JSON)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_worker_is_shown_as_in_the_list(api: Client, registered: None, slash: str) -> None:
    shown = api.get(f"/api/worker/pi-1{slash}").json()
    assert shown == api.get(f"/api/workers/pi-1{slash}").json() == api.get("/api/workers").json()[0]
    assert shown["name"] == "pi-1"


def test_one_that_is_lost_is_shown_as_such(api: Client, registered: None) -> None:
    Worker.objects.filter(name="pi-2").update(status="LOST")
    assert api.get("/api/worker/pi-2").json()["status"] == "LOST"
    assert [worker["name"] for worker in api.get("/api/workers").json()] == api.get("/api/worker").json() == ["pi-1"]


@pytest.mark.parametrize("name", ["pi-3", "PI-1", "x" * 64, "ä", "%00", "pi-1/x"])
@pytest.mark.parametrize("route", ["worker", "workers"])
def test_an_unknown_one_is_not_found(api: Client, registered: None, route: str, name: str) -> None:
    answer = api.get(f"/api/{route}/{name}")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_worker_that_does_not_answer_a_ping_is_null(api: Client, registered: None) -> None:
    answer = ping(api, {"timeout_s": 0.1})
    assert (answer.status_code, answer.json()) == (200, {"pi-1": None, "pi-2": None})


def test_a_ping_without_workers_is_empty(api: Client, broker: redis.Redis) -> None:
    assert ping(api).json() == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": 11}, "timeout_s"),
        ({"timeout_s": "long"}, "timeout_s"),
        ({"timeout_s": "1"}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"timeout": 1}, "timeout"),
        ([], "body"),
    ],
)
def test_a_wrong_body_is_named(api: Client, registered: None, body: Any, field: str) -> None:
    answer = ping(api, body)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_without_a_broker_a_ping_is_a_503(api: Client) -> None:
    Worker.objects.create(
        name="pi-1", instance="i", slots=1, cores=1, memory_bytes=1, machine="x", hostname="h",
        started_at="2026-01-01T00:00Z", heartbeat_at="2026-01-01T00:00Z", clock_offset_ns=0, clock_uncertainty_ns=0,
    )  # fmt: skip
    answer = ping(api, {"timeout_s": 0.1})
    assert answer.status_code == 503
    assert "broker" in answer.json()["detail"]


def test_to_ping_is_to_read(client: Client, registered: None) -> None:
    user = User.objects.create_user("somebody")
    client.force_login(user)
    assert ping(client).status_code == 403
    assert client.get("/api/worker/pi-1").status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_worker"))
    assert ping(client, {"timeout_s": 0.1}).status_code == 200
    assert client.get("/api/worker/ping").status_code == 405
