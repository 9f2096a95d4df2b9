"""Traces over the API: pages of JSON, and all of them as CSV."""

from __future__ import annotations

import csv
import io
from typing import Any
from urllib.parse import urljoin

import pytest
import redis
from django.test import Client

from experiments.analysis.traces import COLUMNS
from experiments.ingest.ingest import ingest
from experiments.models import Experiment
from loadgen.protocol.outcomes import Outcome
from tests.support import batches
from tests.support.records import Row

pytestmark = [pytest.mark.costly, pytest.mark.django_db]


def some_time_out(number: int, row: Row) -> Row:
    return batches.row(row.client, row.sequence, row.intended_ns, Outcome.TIMEOUT) if number % 5 == 0 else row


@pytest.fixture
def experiment(db: None, broker: redis.Redis) -> Experiment:
    """Two services with two shards each: 80 arrivals, of which a fifth timed out. Another one's are beside it."""
    made, other = (batches.make_experiment([[2.0, 20.0]], [[2.0, 20.0]], shards=2) for _ in range(2))
    for owner in (made, other):
        for shard in batches.shards_of(owner):
            for payload in batches.run_payloads(shard, batches.rows_of(shard, some_time_out)):
                ingest(payload)
    return made


def traces(experiment: Experiment) -> str:
    return f"/api/experiments/{experiment.id}/traces"


def all_pages(api: Client, address: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while address:
        page = api.get(address).json()
        found += page["results"]
        address = urljoin(address, page["next"]) if page["next"] else ""
    return found


def test_the_pages_together_have_every_trace_once(api: Client, experiment: Experiment) -> None:
    listed = all_pages(api, f"{traces(experiment)}?limit=7")
    assert len(listed) == len({trace["request_id"] for trace in listed}) == 80
    assert {trace["exp_id"] for trace in listed} == {experiment.id}
    assert list(listed[0]) == list(COLUMNS)
    assert COLUMNS[:9] == (
        "request_id", "client", "service", "created", "sent", "done", "status", "server", "exp_id",
    )  # fmt: skip


def test_times_are_seconds_and_missing_times_are_null(api: Client, experiment: Experiment) -> None:
    by_outcome = {trace["outcome"]: trace for trace in all_pages(api, traces(experiment))}
    done, failed = by_outcome["completed"], by_outcome["timeout"]
    assert done["done"] - done["created"] == pytest.approx(0.00515, abs=1e-6)
    assert batches.START_S <= done["created"] < batches.START_S + 2
    assert (done["status"], done["server"], done["size"], done["routing_version"]) == (200, "10.0.0.1:80", 100, 1)
    assert (failed["done"], failed["status"]) == (None, None)
    assert failed["sent"] > failed["dispatched"] > failed["created"]


def test_csv_has_them_all_with_all_digits(api: Client, experiment: Experiment) -> None:
    answer = api.get(f"{traces(experiment)}?format=csv&limit=1")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert f"traces-{experiment.id}.csv" in answer.headers["Content-Disposition"]
    rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))  # type: ignore[attr-defined]
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 81
    created = {row[COLUMNS.index("created")] for row in rows[1:]}
    assert all(len(time.partition(".")[2]) == 9 for time in created)
    listed = all_pages(api, traces(experiment))
    assert [row[0] for row in rows[1:]] == [trace["request_id"] for trace in listed]


def test_filters(api: Client, experiment: Experiment) -> None:
    one = all_pages(api, f"{traces(experiment)}?service=service1")
    assert len(one) == 40
    assert {trace["service"] for trace in one} == {"service1"}
    failed = all_pages(api, f"{traces(experiment)}?outcome=timeout&limit=3")
    assert len(failed) == 16
    assert {trace["outcome"] for trace in failed} == {"timeout"}
    assert all_pages(api, f"{traces(experiment)}?service=none") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=10001", "limit"), ("after=x", "after"), ("outcome=bad", "outcome"), ("x=1", "x")],
)
def test_invalid_parameters_are_named(api: Client, experiment: Experiment, query: str, field: str) -> None:
    for wanted in ("", "&format=csv"):
        answer = api.get(f"{traces(experiment)}?{query}{wanted}")
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_of_an_unknown_experiment_there_are_none(api: Client) -> None:
    assert api.get("/api/experiments/202611220000-none/traces").status_code == 404
