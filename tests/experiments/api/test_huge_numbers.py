"""Integers that no float can hold, in bodies and queries of the API: a 400, and never an error of the server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from experiments.models import Experiment
from routing.services import set_record
from tests.experiments.plans.bad_plans import MISSING, WORKLOAD, plan_with
from tests.support.fleet import Fleet

pytestmark = pytest.mark.django_db(transaction=True)

HUGE = 10**400
RECORDED = {"process": "prerecorded", "times": [1e9, HUGE]}


def refused(api: Client, method: str, path: str, body: Any) -> set[str]:
    """The fields in the errors of a request that is refused."""
    response = api.generic(method, path, json.dumps(body), content_type="application/json")
    assert response.status_code == 400, response.content
    return {error["field"] for error in response.json()["errors"]}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({f"{WORKLOAD}.ticks": MISSING, f"{WORKLOAD}.arrival_pattern": RECORDED}, f"{WORKLOAD}.arrival_pattern.times"),
        ({f"{WORKLOAD}.ticks": [1, HUGE, 0]}, f"{WORKLOAD}.ticks[1]"),
        ({"seed": HUGE}, "seed"),
    ],
)
def test_huge_integer_in_a_posted_plan_is_a_400(api: Client, fleet: Fleet, changes: dict[str, Any], path: str) -> None:
    assert any(each.startswith(path) for each in refused(api, "POST", "/api/experiments", plan_with(changes)))


def test_huge_integer_in_commands_and_clients_is_a_400(api: Client, fleet: Fleet) -> None:
    fleet.join("pi-1")
    group = api.post("/api/groups", json.dumps({"service": "s"}), content_type="application/json").json()["id"]
    assert refused(api, "POST", "/api/groups", {"service": "s", "num": HUGE}) == {"num"}
    for body in ({"rps": HUGE}, {"n": HUGE}, {"ia": HUGE}, {"ia": ["prerecorded", [0.5, HUGE]]}):
        assert refused(api, "POST", f"/api/groups/{group}/command", body)
    assert refused(api, "POST", f"/api/groups/{group}/clients", {"add": HUGE}) == {"add"}
    assert refused(api, "POST", f"/api/groups/{group}/clients", {"close": HUGE}) == {"close"}


def test_huge_weight_is_a_400(api: Client, broker: Any) -> None:
    set_record("shop", ["a", "b"], None, "test")
    body = {"hosts": ["a", "b"], "weights": [0.5, HUGE]}
    assert refused(api, "POST", "/api/routing", {"service": "s", **body}) == {"weights[1]"}
    assert refused(api, "PUT", "/api/routing/s", body) == {"weights[1]"}
    assert refused(api, "PATCH", "/api/routing/shop", {"weights": [0.5, HUGE]}) == {"weights[1]"}


def test_huge_time_of_a_mark_is_a_400(api: Client, make_experiment: Any) -> None:
    path = f"/api/experiments/{make_experiment().id}/events"
    assert refused(api, "POST", path, {"name": "x", "timestamp": HUGE}) == {"timestamp"}
    assert refused(api, "POST", path, {"name": "x", "timestamp": -HUGE}) == {"timestamp"}


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("", "limit"), ("", "offset"), ("{id}/series", "step"), ("{id}/series", "workload"), ("{id}/series", "from"),
        ("{id}/series", "to"), ("{id}/traces", "after"), ("{id}/traces", "limit"), ("{id}/captures", "limit"),
        ("{id}/telemetry", "limit"), ("{id}/telemetry", "offset"), ("{id}/events", "limit"), ("{id}/events", "offset"),
    ],
)  # fmt: skip
def test_huge_number_in_a_query_is_a_400(api: Client, make_experiment: Any, path: str, parameter: str) -> None:
    make_experiment()
    experiment = Experiment.objects.get()
    place = f"/api/experiments/{path.format(id=experiment.id)}".rstrip("/")
    for value in (HUGE, -HUGE, "1" * 5000):
        response = api.get(place, {parameter: str(value)})
        assert response.status_code == 400, (place, response.content)
        assert [error["field"] for error in response.json()["errors"]] == [parameter]
