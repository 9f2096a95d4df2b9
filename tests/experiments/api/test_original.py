"""The original's REST contract: requests and responses of its tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from django.test import Client

from experiments.models import Experiment
from experiments.services import apps
from routing import services as routing
from tests.support import batches
from tests.support.archives import app_archive
from tests.support.workers import register

pytestmark = pytest.mark.django_db

JSON = "application/json"
# As the original's own documentation has it.
EXAMPLE: dict[str, Any] = {
    "experiment": {"name": "my_experiment", "creator": "research star"},
    "configuration": {
        "duration": "10s",
        "interval": "2s",
        "workloads": [{"service": "alexnet", "ticks": [1, 2, 3, 1, 1], "clients_per_host": 2}],
    },
}


@pytest.fixture
def fleet(broker: redis.Redis) -> None:
    register(broker, "pi-1")


def post(api: Client, data: Any) -> Any:
    return api.post("/api/experiments", json.dumps(data), content_type=JSON)


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_originals_example_plan_returns_the_id(api: Client, fleet: None, slash: str) -> None:
    answer = api.post(f"/api/experiments{slash}", json.dumps(EXAMPLE), content_type=JSON)
    experiment = Experiment.objects.get()
    assert answer.content == json.dumps(experiment.id).encode()
    assert answer.headers["Content-Type"] == "application/json"
    assert (experiment.name, experiment.creator) == ("my_experiment", "research star")
    assert experiment.workloads.get().spec["schedule"] == [[2.0, 1], [2.0, 2], [2.0, 3], [2.0, 1], [2.0, 1]]


def test_without_workers_it_is_a_503_with_a_reason(api: Client, broker: redis.Redis) -> None:
    answer = post(api, EXAMPLE)
    assert answer.status_code == 503
    assert "no worker is running" in answer.json()["detail"]
    assert not Experiment.objects.exists()


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_experiment_has_the_originals_fields(api: Client, fleet: None, slash: str) -> None:
    queued = post(api, EXAMPLE).json()
    ended = batches.make_experiment(status="FINISHED")
    Experiment.objects.filter(id=ended.id).update(ended_at=batches.START)
    listed = {each["id"]: each for each in api.get(f"/api/experiments{slash}").json()}
    for experiment_id in (queued, ended.id):
        shown = api.get(f"/api/experiments/{experiment_id}{slash}").json()
        for found in (shown, listed[experiment_id]):
            assert {"id", "name", "creator", "start", "end", "created", "status"} <= set(found)
            assert isinstance(found["created"], float)
            kind = float if experiment_id == ended.id else type(None)
            assert (type(found["start"]), type(found["end"])) == (kind, kind)
    assert (listed[queued]["status"], listed[ended.id]["status"]) == ("QUEUED", "FINISHED")


@pytest.mark.parametrize("slash", ["", "/"])
def test_each_service_is_an_object_with_a_name(api: Client, broker: redis.Redis, slash: str) -> None:
    for service in ("b", "a"):
        routing.set_record(service, ["host:80"], [1])
    assert api.get(f"/api/services{slash}").json() == [{"name": "a"}, {"name": "b"}]


@pytest.mark.parametrize(
    "path",
    ["", "/worker", "/workers", "/services", "/experiments", "/apps", "/experiments/{id}", "/experiments/{id}/summary",
     "/experiments/{id}/series", "/experiments/{id}/traces", "/experiments/{id}/captures",
     "/experiments/{id}/telemetry", "/experiments/{id}/events", "/groups", "/routing"],
)  # fmt: skip
def test_each_route_accepts_a_trailing_slash(api: Client, broker: redis.Redis, path: str) -> None:
    experiment = batches.make_experiment(status="FINISHED")
    Experiment.objects.update(summary={})
    address = f"/api{path}".replace("{id}", experiment.id)
    for each in (address, f"{address}/"):
        answer = api.get(each)
        assert answer.status_code == 200
        assert answer.json() == api.get(address).json()


def test_the_id_of_a_plan_is_used_once(api: Client, fleet: None) -> None:
    named = {**EXAMPLE, "experiment": {**EXAMPLE["experiment"], "id": "run-7"}}
    assert post(api, named).json() == "run-7"
    again = post(api, named)
    assert (again.status_code, again.json()["detail"]) == (409, "there is an experiment run-7 already")
    assert Experiment.objects.get().plan["experiment"] == {"name": "my_experiment", "creator": "research star"}


@pytest.mark.parametrize("wrong", ["", "-a", "a/b", "x" * 25, "pkey", 7])
def test_an_invalid_id_is_refused_at_its_field(api: Client, fleet: None, wrong: object) -> None:
    answer = post(api, {**EXAMPLE, "experiment": {"id": wrong}})
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["experiment.id"]
    assert not Experiment.objects.exists()


def test_the_app_of_the_services_name_is_the_default(api: Client, fleet: None, settings: Any, tmp_path: Path) -> None:
    settings.GALILEO_APPS_REPO_DIR = tmp_path
    apps.upload(app_archive(manifest=b"name: alexnet"), "tester")
    spec = Experiment.objects.get(id=post(api, EXAMPLE).json()).workloads.get().spec
    assert spec["client_app"] == "alexnet"
    (workload,) = EXAMPLE["configuration"]["workloads"]
    said = {**EXAMPLE["configuration"], "workloads": [{**workload, "path": "/"}]}
    spec = Experiment.objects.get(id=post(api, {"configuration": said}).json()).workloads.get().spec
    assert (spec["client_app"], spec["path"]) == (None, "/")
    group = api.post("/api/groups", json.dumps({"service": "alexnet"}), content_type=JSON).json()
    assert group["sends"] == "app alexnet {}"
