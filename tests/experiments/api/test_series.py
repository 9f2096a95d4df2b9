"""The series of an experiment over the API: JSON and CSV, in parts."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from experiments.analysis import series
from experiments.analysis.series import COLUMNS
from experiments.ingest.ingest import ingest
from experiments.models import Experiment
from tests.support import batches
from tests.support.batches import START_S

pytestmark = [pytest.mark.costly, pytest.mark.django_db]


@pytest.fixture
def experiment(db: None, broker: redis.Redis) -> Experiment:
    """A service with 4, 8 and 2 arrivals in three seconds, and one with 1 in each."""
    made = batches.make_experiment([[1.0, 4.0], [1.0, 8.0], [1.0, 2.0]], [[3.0, 1.0]])
    for shard in batches.shards_of(made):
        for payload in batches.run_payloads(shard):
            ingest(payload)
    return made


def address(experiment: Experiment, query: str = "") -> str:
    return f"/api/experiments/{experiment.id}/series{query}"


def arrivals(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.content
    return [point["arrivals"] for point in answer.json()["points"]]


def test_a_series_has_its_range_and_a_point_per_second(api: Client, experiment: Experiment) -> None:
    with CaptureQueriesContext(connection) as queries:
        said = api.get(address(experiment)).json()
    assert not [query for query in queries if "experiments_trace" in query["sql"]]
    points = said.pop("points")
    assert said == {
        "start": float(START_S),
        "from": START_S,
        "to": START_S + 3,
        "step": 1,
        "workloads": [{"workload": 0, "service": "service0"}, {"workload": 1, "service": "service1"}],
        "hosts": ["10.0.0.1:80"],
    }
    assert [(point["second"], point["arrivals"]) for point in points] == [
        (START_S, 5), (START_S + 1, 9), (START_S + 2, 3),
    ]  # fmt: skip
    assert tuple(points[0]) == COLUMNS


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?service=service0", [4, 8, 2]),
        ("?workload=1", [1, 1, 1]),
        ("?from=1", [9, 3]),
        ("?to=1", [5]),
        (f"?from={START_S + 1}&to={START_S + 2}", [9]),
        (f"?from={START_S + 1}.5", [9, 3]),
        ("?step=2", [14, 3]),
        ("?from=0&to=3&step=3&format=json", [17]),
        ("?to=100000000000", [5, 9, 3]),
        ("?from=604800", []),
    ],
)
def test_parts(api: Client, experiment: Experiment, query: str, expected: list[int]) -> None:
    assert arrivals(api.get(address(experiment, query))) == expected


def test_a_host_has_sent_completed_and_errors(api: Client, experiment: Experiment) -> None:
    points = api.get(address(experiment, "?host=10.0.0.1:80&service=service1")).json()["points"]
    assert [(point["sent"], point["completed"], point["errors"]) for point in points] == [(1, 1, 0)] * 3
    assert {point["arrivals"] for point in points} == {None}


@pytest.mark.parametrize("how", ["query", "header"])
def test_csv_has_the_same(api: Client, experiment: Experiment, how: str) -> None:
    query, headers = ("?format=csv&step=2", {}) if how == "query" else ("?step=2", {"Accept": "text/csv"})
    answer = api.get(address(experiment, query), headers=headers)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert f"series-{experiment.id}.csv" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))  # type: ignore[attr-defined]
    points = api.get(address(experiment, "?step=2")).json()["points"]
    assert rows == [{name: "" if value is None else str(value) for name, value in point.items()} for point in points]


def test_before_the_start_there_are_no_points(api: Client, experiment: Experiment) -> None:
    Experiment.objects.update(start_broker_ns=None)
    said = api.get(address(experiment, f"?from={START_S}")).json()
    assert (said["start"], said["points"]) == (None, [])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("step=0", "step"),
        ("step=1.5", "step"),
        ("step=604801", "step"),
        ("from=x", "from"),
        ("from=nan", "from"),
        ("from=inf", "from"),
        ("from=-1", "from"),
        ("from=1e300", "from"),
        ("to=nan", "to"),
        ("from=2&to=2", "to"),
        (f"from={START_S + 2}&to={START_S + 1}", "to"),
        ("service=other", "service"),
        ("service=", "service"),
        ("workload=7", "workload"),
        ("workload=-1", "workload"),
        ("workload=99999999999", "workload"),
        ("host=", "host"),
        ("format=xml", "format"),
        ("start=1", "start"),
        ("step=1&step=2", "step"),
    ],
)
def test_invalid_parameters_are_named(api: Client, experiment: Experiment, query: str, field: str) -> None:
    answer = api.get(address(experiment, f"?{query}"))
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_too_many_points_are_refused(api: Client, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MAX_POINTS", 2)
    answer = api.get(address(experiment, "?step=1"))
    assert answer.status_code == 400
    assert "exceed 2 points" in answer.json()["errors"][0]["message"]
    assert api.get(address(experiment, "?step=1&format=csv")).status_code == 200  # it is streamed
    assert api.get(address(experiment)).json()["step"] == 2


def test_it_takes_a_permission(client: Client, experiment: Experiment) -> None:
    client.force_login(User.objects.create_user("somebody"))
    assert client.get(address(experiment)).status_code == 403
