"""Each request of the original Galileo's own API tests, replayed with its payload and its expectation."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from django.test import Client

from experiments.api.index import document
from experiments.ingest.ingest import ingest
from experiments.models import Experiment, TelemetrySample, Trace
from experiments.services import workers
from routing import services as routing
from tests.support import batches
from tests.support.workers import register

pytestmark = pytest.mark.django_db

JSON = "application/json"
EXPERIMENTS = "/api/experiments"
# id, name, creator, start, end, created; the statuses are those of tests/experiments/api/test_original.py.
ROWS = [
    ("id1", "name1", "creator1", 123, 456, 789),
    ("id2", "name2", "creator2", 1, 4, 7),
    ("id3", "name3", "creator3", 3, 6, 9),
]
FIELDS = ("id", "name", "creator", "start", "end", "created")
PAYLOAD: dict[str, Any] = {
    "experiment": {"name": "my_experiment", "creator": "research star"},
    "configuration": {
        "duration": "10s",
        "interval": "2s",
        "workloads": [
            {"service": "alexnet", "ticks": [1, 2, 3, 1, 1], "arrival_pattern": "constant", "clients_per_host": 2}
        ],
    },
}


def stored(row: tuple[Any, ...]) -> Experiment:
    """A finished experiment with these values."""
    experiment = batches.make_experiment(status="FINISHED", experiment_id=row[0])
    start, end, created = (datetime.fromtimestamp(seconds, UTC) for seconds in row[3:])
    Experiment.objects.filter(id=row[0]).update(
        name=row[1], creator=row[2], started_at=start, ended_at=end, created_at=created
    )
    return experiment


def fields_of(shown: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(shown[name] for name in FIELDS)


def test_experiment_is_shown_with_the_originals_fields(api: Client, broker: redis.Redis) -> None:
    stored(ROWS[0])
    assert fields_of(api.get(f"{EXPERIMENTS}/id1").json()) == ROWS[0]


def test_list_without_experiments_is_an_empty_array(api: Client) -> None:
    assert api.get(EXPERIMENTS).json() == []


def test_list_has_every_experiment_with_its_fields(api: Client) -> None:
    for row in ROWS:
        stored(row)
    assert sorted(map(fields_of, api.get(EXPERIMENTS).json())) == ROWS


def test_delete_removes_traces_and_telemetry(api: Client, broker: redis.Redis) -> None:
    experiment = stored(ROWS[0])
    (shard,) = batches.shards_of(experiment)
    for payload in batches.run_payloads(shard):
        ingest(payload)
    for number in (1, 2):
        TelemetrySample.objects.create(
            experiment=experiment, node=f"node{number}", metric=f"metric{number}", subsystem="",
            timestamp_ns=number, value=number,
        )  # fmt: skip
    assert Trace.objects.exists()
    answer = api.delete(f"{EXPERIMENTS}/id1")
    assert (answer.status_code, answer.content) == (200, b'"id1"')
    assert not Experiment.objects.exists()
    assert not Trace.objects.exists()
    assert not TelemetrySample.objects.exists()


def test_posted_plan_is_queued_and_its_id_is_returned(api: Client, broker: redis.Redis) -> None:
    register(broker, "host1")
    answer = api.post(EXPERIMENTS, json.dumps(PAYLOAD), content_type=JSON)
    experiment = Experiment.objects.get()
    assert answer.json() == experiment.id
    assert (experiment.status, experiment.created_at is not None) == ("QUEUED", True)
    assert experiment.workloads.get().spec["schedule"] == [[2.0, rate] for rate in (1, 2, 3, 1, 1)]


def test_services_are_objects_with_a_name(api: Client, broker: redis.Redis) -> None:
    routing.set_record("mxnet-model-server", ["host1:8080"])
    assert api.get("/api/services").json() == [{"name": "mxnet-model-server"}]


@pytest.mark.parametrize("slash", ["", "/"])
def test_workers_are_an_array_of_names(api: Client, broker: redis.Redis, slash: str) -> None:
    assert api.get(f"/api/worker{slash}").json() == []
    for name in ("host1", "host2"):
        register(broker, name)
    workers.sync_workers()
    assert api.get(f"/api/worker{slash}").json() == ["host1", "host2"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_index_is_an_array_of_uri_and_type(api: Client, slash: str) -> None:
    listed = {route["uri"]: route["type"] for route in api.get(f"/api{slash}").json()}
    originals = {
        "/api": "ApiResource",
        "/api/worker": "WorkerResource",
        "/api/services": "ServicesResource",
        "/api/experiments": "ExperimentsResource",
        "/api/experiments/{experiment_id}": "ExperimentResource",
        "/api/apps": "RepositoryResource",
        "/api/apps/{name}": "RepositoryResource",
        "/api/apps/{name}/download": "RepositoryResource",
    }
    assert originals.items() <= listed.items()
    assert all(set(route) == {"uri", "type"} for route in api.get("/api").json())


def test_schema_describes_the_originals_responses() -> None:
    paths = document()["paths"]

    def schema(path: str, method: str, status: str) -> Any:
        return paths[path][method]["responses"][status]["content"][JSON]["schema"]

    assert schema("/api/worker", "get", "200") == {"type": "array", "items": {"type": "string"}}
    assert schema("/api", "get", "200")["type"] == "array"
    for status in ("200", "202"):
        assert schema("/api/experiments/{experiment_id}", "delete", status) == {"type": "string"}
