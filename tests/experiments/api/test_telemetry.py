"""Telemetry and the timeline over the API, and the shell's telemd."""

from __future__ import annotations

import csv
import io
import json
from typing import Any
from urllib.parse import urljoin

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from experiments.api.schema import PROBLEM_JSON
from experiments.models import Event, Experiment, Recording, TelemetrySample
from experiments.services.nodes import NoSuchNode
from experiments.shell.telemd import Telemd
from loadgen.protocol.topics import commands_channel
from tests.support import batches
from tests.support.waiting import wait_for

NS = 1_000_000_000
JSON = "application/json"

pytestmark = pytest.mark.django_db


@pytest.fixture
def experiment(db: None) -> Experiment:
    """With five samples of each of four series, and another one's beside it."""
    made, other = batches.make_experiment(), batches.make_experiment()
    TelemetrySample.objects.bulk_create(
        TelemetrySample(
            experiment=owner,
            node=node,
            metric=metric,
            subsystem=subsystem,
            timestamp_ns=batches.START_NS + second * NS + 123_456_789,
            value=second / 2,
        )
        for owner in (made, other)
        for second in range(5)
        for node, metric, subsystem in (
            ("pi-2", "cpu", ""), ("pi-1", "cpu", ""), ("pi-1", "rd", "sda"), ("pi-1", "cpu", "0"),
        )
    )  # fmt: skip
    return made


def telemetry(experiment: Experiment) -> str:
    return f"/api/experiments/{experiment.id}/telemetry"


def events(experiment: Experiment) -> str:
    return f"/api/experiments/{experiment.id}/events"


# --- telemetry --------------------------------------------------------------------------------------------------------


def test_telemetry_comes_series_by_series_in_the_order_of_time(api: Client, experiment: Experiment) -> None:
    answer = api.get(telemetry(experiment)).json()
    series = [(item["metric"], item["node"], item["subsystem"]) for item in answer["results"]]

    assert (answer["count"], answer["next"], answer["previous"]) == (20, None, None)
    assert series == sorted(series)
    assert len(set(series)) == 4
    assert answer["results"][0] == {
        "timestamp": batches.START_S + 0.123456789, "metric": "cpu", "node": "pi-1", "subsystem": "", "value": 0.0,
    }  # fmt: skip
    assert [item["value"] for item in answer["results"][:5]] == [0.0, 0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("query", "count"),
    [("node=pi-2", 5), ("metric=cpu", 15), ("metric=cpu&subsystem=", 10), ("subsystem=sda", 5), ("node=pi", 0)],
)
def test_filters_are_exact(api: Client, experiment: Experiment, query: str, count: int) -> None:
    assert api.get(f"{telemetry(experiment)}?{query}").json()["count"] == count


def test_pages_lead_to_each_other_and_keep_the_filters(api: Client, experiment: Experiment) -> None:
    address, values = f"{telemetry(experiment)}/?metric=cpu&subsystem=&limit=4", []
    while address:
        page = api.get(address).json()
        values += [(item["node"], item["value"]) for item in page["results"]]
        last, address = address, urljoin(address, page["next"]) if page["next"] else ""
    assert values == [(node, second / 2) for node in ("pi-1", "pi-2") for second in range(5)]
    assert "offset=8" in last
    assert "offset=4" in page["previous"]


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=10001", "limit"), ("limit=x", "limit"), ("offset=-1", "offset"), ("nod=a", "nod")],
)
def test_a_wrong_parameter_is_named(api: Client, experiment: Experiment, query: str, field: str) -> None:
    for suffix in ("", "&format=csv"):
        answer = api.get(f"{telemetry(experiment)}?{query}{suffix}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (400, PROBLEM_JSON)
        assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("asked", [{"query_params": {"format": "csv", "metric": "cpu", "subsystem": ""}}, None])
def test_csv_is_streamed_with_every_digit(
    api: Client, experiment: Experiment, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.selectors.ROWS_PER_QUERY", 3)
    monkeypatch.setattr("experiments.downloads.PIECE_CHARACTERS", 1)
    address = f"{telemetry(experiment)}?metric=cpu&subsystem="
    answer = api.get(address + "&format=csv") if asked else api.get(address, headers={"Accept": "text/csv"})

    assert answer.streaming
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert len(lines) == 10
    assert lines[1] == {
        "timestamp": f"{batches.START_S + 1}.123456789",
        "metric": "cpu",
        "node": "pi-1",
        "subsystem": "",
        "value": "0.5",
    }


def test_a_series_is_read_by_the_index_alone(api: Client, experiment: Experiment) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the plan of a query is told differently elsewhere")
    with CaptureQueriesContext(connection) as queries:
        api.get(f"{telemetry(experiment)}?metric=cpu&node=pi-1")
    (reading,) = [each["sql"] for each in queries if "ORDER BY" in each["sql"] and "telemetrysample" in each["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {reading}")
        steps = " ".join(row[3] for row in cursor.fetchall())
    assert "SEARCH" in steps
    assert "TEMP B-TREE" not in steps


def test_an_experiment_counts_missing_telemetry(api: Client, experiment: Experiment) -> None:
    Recording.objects.create(
        experiment=experiment, began_at=batches.START, unparsable=2, example="telem/x: no", dropped=1
    )
    shown = api.get(f"/api/experiments/{experiment.id}").json()
    assert shown["recording"] == {"unparsable": 2, "example": "telem/x: no", "dropped": 1}


# --- the timeline -----------------------------------------------------------------------------------------------------


def test_the_timeline_is_listed_in_pages(api: Client, experiment: Experiment) -> None:
    for number in range(3):
        Event.objects.create(experiment=experiment, timestamp=batches.START, name=f"e{number}", key=f"e{number}")
    address = f"{events(experiment)}?limit=2"
    page = api.get(address).json()
    assert (page["count"], [event["name"] for event in page["results"]]) == (3, ["e0", "e1"])
    assert page["results"][0] == {"timestamp": batches.START.timestamp(), "name": "e0", "value": ""}
    last = api.get(urljoin(address, page["next"])).json()
    assert [event["name"] for event in last["results"]] == ["e2"]


def test_a_mark_is_set_each_time_that_it_is_asked_for(api: Client, experiment: Experiment) -> None:
    marks = [{"name": "scaled up", "value": " 3 "}, {"name": "scaled up", "timestamp": batches.START_S + 0.5}]
    answers = [api.post(events(experiment), json.dumps(mark), content_type=JSON) for mark in (*marks, marks[1])]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert answers[1].json() == {"timestamp": batches.START_S + 0.5, "name": "scaled up", "value": ""}
    assert sorted(experiment.events.values_list("name", "value")) == [("scaled up", "")] * 2 + [("scaled up", " 3 ")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "n" * 192}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": "a\u0007b"}, "name"),
        ({"name": ["a"]}, "name"),
        ({"name": "a", "value": {"b": 1}}, "value"),
        ({"name": "a", "value": "v" * 10_001}, "value"),
        ({"name": "a", "value": "\u0000"}, "value"),
        ({"name": "a", "timestamp": "nan"}, "timestamp"),
        ({"name": "a", "timestamp": -1}, "timestamp"),
        ({"name": "a", "timestamp": 1e300}, "timestamp"),
        ({"name": "a", "timestamp": "noon"}, "timestamp"),
        ({"name": "a", "when": 1}, "when"),
        ([], "body"),
    ],
)
def test_a_wrong_mark_is_refused_with_the_field(api: Client, experiment: Experiment, body: Any, field: str) -> None:
    answer = api.post(events(experiment), json.dumps(body), content_type=JSON)
    assert answer.status_code == 400
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert not Event.objects.exists()


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "CANCELLED"])
def test_an_experiment_that_has_ended_takes_no_mark(api: Client, status: str) -> None:
    ended = batches.make_experiment(status=status)
    answer = api.post(events(ended), '{"name": "late"}', content_type=JSON)
    assert answer.status_code == 409
    assert not Event.objects.exists()


@pytest.mark.parametrize("part", ["telemetry", "telemetry?format=csv", "events"])
def test_an_unknown_experiment_is_not_found(api: Client, part: str) -> None:
    answer = api.get(f"/api/experiments/202611220000-none/{part}")
    assert answer.status_code == 404
    assert "202611220000-none" in answer.json()["detail"]
    if part == "events":
        assert (
            api.post(f"/api/experiments/202611220000-none/{part}", '{"name": "a"}', content_type=JSON).status_code
            == 404
        )


def test_each_part_needs_its_permission(client: Client, experiment: Experiment) -> None:
    user = User.objects.create_user("reader")
    client.force_login(user)
    assert [client.get(address(experiment)).status_code for address in (telemetry, events)] == [403, 403]
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_telemetrysample", "view_event"]))
    assert [client.get(address(experiment)).status_code for address in (telemetry, events)] == [200, 200]
    assert client.post(events(experiment), '{"name": "a"}', content_type=JSON).status_code == 403


# --- the shell --------------------------------------------------------------------------------------------------------


def test_the_shells_telemd_lists_pauses_and_unpauses_nodes(broker: redis.Redis) -> None:
    telemd = Telemd()
    assert telemd.list_telemd_hosts() == []
    with broker.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(commands_channel("pi-2"), commands_channel("pi-1"))
        wait_for(lambda: telemd.list_telemd_hosts() == ["pi-1", "pi-2"], "the nodes to listen", 10)
        telemd.stop_telemd()
        telemd.start_telemd(["pi-2"])
        telemd.stop_telemd("pi-1")
        with pytest.raises(NoSuchNode, match="listens on pi-3; these listen: pi-1, pi-2"):
            telemd.start_telemd(["pi-1", "pi-3"])
        telemd.start_telemd([])
        told = []
        while len(told) < 4:
            message = pubsub.get_message(timeout=5)
            if message is not None:
                told.append((message["channel"].decode(), message["data"].decode()))
        assert told == [
            ("telemcmd/pi-1", "pause"),
            ("telemcmd/pi-2", "pause"),
            ("telemcmd/pi-2", "unpause"),
            ("telemcmd/pi-1", "pause"),
        ]
        assert pubsub.get_message(timeout=0.1) is None
