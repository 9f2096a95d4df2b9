"""Long experiments: everything is read in queries of bounded size, without a limit of length."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
import redis
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from experiments import selectors
from experiments.analysis import series, shard_scope, traces
from experiments.analysis.summary import summarise
from experiments.ingest.ingest import ingest
from experiments.models import Capture, Event, Experiment, SecondStats, TelemetrySample, Trace
from tests.support import batches

pytestmark = [pytest.mark.costly, pytest.mark.django_db]


@pytest.fixture
def experiment(db: None, broker: redis.Redis) -> Experiment:
    """Two services with two shards each: 80 arrivals. Another experiment's are beside it."""
    made, other = (batches.make_experiment([[2.0, 20.0]], [[2.0, 20.0]], shards=2) for _ in range(2))
    for owner in (made, other):
        for shard in batches.shards_of(owner):
            for payload in batches.run_payloads(shard):
                ingest(payload)
    return made


def rows_of(answer: Any) -> list[list[str]]:
    assert answer.status_code == 200
    return list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))[1:]


def limits_of(queries: CaptureQueriesContext, table: str) -> list[int]:
    """The limits of the queries that read rows of a table; a query without one fails the test."""
    reads = [each["sql"] for each in queries if f"{table}" in each["sql"] and "ORDER BY" in each["sql"]]
    found = [re.search(r"LIMIT (\d+)$", sql) for sql in reads]
    assert all(found), reads
    return [int(each[1]) for each in found if each]


# --- traces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 40, 79, 80, 81])
@pytest.mark.parametrize(("query", "count"), [("", 80), ("&service=service1", 40), ("&outcome=completed", 80)])
def test_csv_of_traces_has_each_once_in_bounded_queries(
    api: Client, experiment: Experiment, monkeypatch: pytest.MonkeyPatch, size: int, query: str, count: int
) -> None:
    monkeypatch.setattr(traces, "_ROWS_PER_QUERY", size)
    with CaptureQueriesContext(connection) as queries:
        rows = rows_of(api.get(f"/api/experiments/{experiment.id}/traces?format=csv{query}"))
    assert len(rows) == len({row[0] for row in rows}) == count
    assert set(limits_of(queries, "experiments_trace")) == {size}


@pytest.mark.parametrize("limit", [1, 7, 8, 14, 79, 80, 81, 200])
def test_page_of_traces_has_its_limit(experiment: Experiment, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(traces, "_ROWS_PER_QUERY", 7)
    keys = [key for key, _ in traces.lines_of(experiment, limit=limit)]
    assert keys == list(Trace.objects.filter(experiment=experiment).values_list("id", flat=True)[:limit])


def test_captured_traces_are_found_across_queries(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_ROWS_PER_QUERY", 3)
    captured = list(Trace.objects.filter(experiment=experiment).values_list("id", flat=True)[::9])
    for key in captured:
        Capture.objects.create(id=key, experiment=experiment, request=b"a", response=b"b")
    assert [key for key, _ in traces.lines_of(experiment, captured=True)] == captured


def test_reader_that_waits_holds_no_cursor(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_ROWS_PER_QUERY", 7)
    lines = traces.lines_of(experiment)
    next(lines)
    late = Trace.objects.filter(experiment=experiment).order_by("-id")[0]
    late.id += 1
    late.save(force_insert=True)  # stored while a slow client takes the first rows
    assert sum(1 for _ in lines) == 80


def test_shard_that_is_new_meanwhile_is_read(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_ROWS_PER_QUERY", 20)
    whole = traces._shards(experiment)
    known = dict(list(whole.items())[:1])
    answers = iter([known])
    monkeypatch.setattr(traces, "_shards", lambda _: next(answers, whole))
    assert len(list(traces.lines_of(experiment))) == 80


# --- telemetry and events ---------------------------------------------------------------------------------------------


@pytest.fixture
def samples(experiment: Experiment) -> list[tuple[str, str, str, int]]:
    """Seven samples of each of 18 series, in the order of the API; another experiment's are beside them."""
    made = [
        (metric, node, subsystem, second)
        for metric in ("cpu", "rd", "wr")
        for node in ("pi-1", "pi-10", "pi-2")
        for subsystem in ("", "sda")
        for second in range(7)
    ]
    for owner in Experiment.objects.all():
        TelemetrySample.objects.bulk_create(
            TelemetrySample(
                experiment=owner, metric=metric, node=node, subsystem=part, timestamp_ns=second, value=second
            )
            for metric, node, part, second in reversed(made)
        )
    return made


@pytest.mark.parametrize("size", [1, 3, 7, 8, 2000])
def test_csv_of_telemetry_has_each_once_in_bounded_queries(
    api: Client, experiment: Experiment, samples: list[Any], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(selectors, "ROWS_PER_QUERY", size)
    with CaptureQueriesContext(connection) as queries:
        rows = rows_of(api.get(f"/api/experiments/{experiment.id}/telemetry?format=csv"))
    found = [(metric, node, part, int(time.partition(".")[2])) for time, metric, node, part, _ in rows]
    assert found == samples
    assert set(limits_of(queries, "telemetrysample")) <= {1, size}


@pytest.mark.parametrize(
    "wanted",
    [{"metric": "rd"}, {"node": "pi-10"}, {"subsystem": ""}, {"metric": "wr", "subsystem": "sda"}, {"node": "x"}],
)
def test_filters_of_telemetry_hold_across_series(
    experiment: Experiment, samples: list[Any], monkeypatch: pytest.MonkeyPatch, wanted: dict[str, str]
) -> None:
    monkeypatch.setattr(selectors, "ROWS_PER_QUERY", 2)
    found = [(metric, node, part, time) for time, metric, node, part, _ in selectors.samples(experiment.id, **wanted)]
    names = ("metric", "node", "subsystem")
    assert found == [each for each in samples if all(each[names.index(name)] == wanted[name] for name in wanted)]


def test_experiment_shows_the_beginning_of_a_long_timeline(api: Client, experiment: Experiment) -> None:
    Event.objects.bulk_create(
        Event(experiment=experiment, timestamp=batches.START, name=f"e{number}", key=f"e{number}")
        for number in range(1005)
    )
    shown = api.get(f"/api/experiments/{experiment.id}").json()["events"]
    assert [event["name"] for event in shown] == [f"e{number}" for number in range(1000)]
    last = api.get(f"/api/experiments/{experiment.id}/events?offset=1000").json()
    assert (last["count"], len(last["results"])) == (1005, 5)


# --- series -----------------------------------------------------------------------------------------------------------


def test_csv_of_a_series_has_no_limit_of_length(
    api: Client, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "MAX_POINTS", 1)
    monkeypatch.setattr(series, "MAX_ROWS", 1)
    path = f"/api/experiments/{experiment.id}/series"
    refused = api.get(f"{path}?step=1")
    assert refused.status_code == 400
    assert "read CSV" in refused.json()["errors"][0]["message"]
    assert len(rows_of(api.get(f"{path}?step=1&format=csv"))) == 2


@pytest.mark.parametrize("size", [1, 8, 16, 2000])
def test_series_is_the_same_for_every_size_of_a_query(
    api: Client, experiment: Experiment, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = f"/api/experiments/{experiment.id}/series?step=1&format=csv"
    whole = rows_of(api.get(path))
    monkeypatch.setattr(series, "_ROWS_PER_QUERY", size)
    assert rows_of(api.get(path)) == whole


@pytest.mark.parametrize("size", [1, 2])
def test_summary_is_the_same_for_every_size_of_a_query(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    whole = summarise(experiment)
    monkeypatch.setattr(shard_scope, "_SECONDS_PER_QUERY", size)
    assert summarise(experiment) == whole


def test_seconds_far_apart_are_read_without_empty_queries(
    experiment: Experiment, django_assert_max_num_queries: Any
) -> None:
    first = SecondStats.objects.filter(experiment=experiment).order_by("second", "id")[0]
    SecondStats.objects.filter(id=first.id).update(second=0)  # of a shard that never learned of the start
    with django_assert_max_num_queries(30):
        found = list(shard_scope.seconds_of(experiment, "shard_id", "second"))
    assert sorted(found) == sorted(SecondStats.objects.filter(experiment=experiment).values_list("shard_id", "second"))
