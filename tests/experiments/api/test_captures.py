"""Captured requests and responses over the API."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urljoin

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.test import Client

from experiments.ingest.ingest import ingest
from experiments.models import Capture, Experiment, Trace
from loadgen.protocol.outcomes import Outcome
from tests.support import batches
from tests.support.records import Row

pytestmark = [pytest.mark.costly, pytest.mark.django_db]

HEAD = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
TEXT = "HTTP/1.1 200 OK\r\n\r\nGrüße".encode()
BINARY = b"HTTP/1.1 200 OK\r\n\r\n\xff\xd8\xff\x00"


def some_time_out(number: int, row: Row) -> Row:
    return batches.row(row.client, row.sequence, row.intended_ns, Outcome.TIMEOUT) if number % 5 == 0 else row


@pytest.fixture
def experiment(db: None, broker: redis.Redis) -> Experiment:
    """Two services with 20 arrivals each, of which every second one is captured; and another with captures, too."""
    made, other = (batches.make_experiment([[2.0, 10.0]], [[2.0, 10.0]]) for _ in range(2))
    for owner in (made, other):
        for shard in batches.shards_of(owner):
            for payload in batches.run_payloads(shard, batches.rows_of(shard, some_time_out)):
                ingest(payload)
        ids = list(Trace.objects.filter(experiment=owner).order_by("id").values_list("id", flat=True))[::2]
        Capture.objects.bulk_create(
            Capture(id=key, experiment=owner, request=HEAD, response=BINARY if key == ids[0] else TEXT) for key in ids
        )
    return made


def captures(experiment: Experiment, query: str = "") -> str:
    return f"/api/experiments/{experiment.id}/captures{query}"


def all_pages(api: Client, address: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while address:
        page = api.get(address).json()
        found += page["results"]
        address = urljoin(address, page["next"]) if page["next"] else ""
    return found


@pytest.mark.parametrize("limit", ["", "?limit=3", "?limit=20", "?limit=19"])
def test_the_pages_together_have_each_once_beside_its_trace(api: Client, experiment: Experiment, limit: str) -> None:
    listed = all_pages(api, captures(experiment, limit))
    assert len(listed) == len({each["request_id"] for each in listed}) == 20
    traces = {
        each["request_id"]: each for each in api.get(f"/api/experiments/{experiment.id}/traces").json()["results"]
    }
    for each in listed:
        assert each.pop("request") == {"encoding": "utf-8", "content": HEAD.decode()}
        assert each.pop("response")["encoding"] in ("utf-8", "base64")
        assert each == traces[each["request_id"]]


def test_a_message_that_is_not_utf_8_is_in_base64(api: Client, experiment: Experiment) -> None:
    binary, text, *_ = all_pages(api, captures(experiment))
    assert binary["response"]["encoding"] == "base64"
    assert base64.b64decode(binary["response"]["content"]) == BINARY
    assert text["response"] == {"encoding": "utf-8", "content": TEXT.decode()}


def test_filters(api: Client, experiment: Experiment) -> None:
    one = all_pages(api, captures(experiment, "?service=service1&limit=3"))
    assert len(one) == 10
    assert {each["service"] for each in one} == {"service1"}
    failed = all_pages(api, captures(experiment, "?outcome=timeout"))
    assert {each["outcome"] for each in failed} == {"timeout"}
    assert len(failed) == 4


def test_without_captures_the_list_is_empty(api: Client, experiment: Experiment) -> None:
    Capture.objects.all().delete()
    assert api.get(captures(experiment, "/")).json() == {"next": None, "results": []}


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=501", "limit"), ("after=x", "after"), ("outcome=bad", "outcome"), ("x=1", "x")],
)
def test_invalid_parameters_are_named(api: Client, experiment: Experiment, query: str, field: str) -> None:
    answer = api.get(captures(experiment, f"?{query}"))
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_it_takes_a_permission_of_its_own(client: Client, experiment: Experiment) -> None:
    """Captures hold what the requests hold, passwords included."""
    user = User.objects.create_user("somebody")
    user.user_permissions.add(Permission.objects.get(codename="view_trace"))
    client.force_login(user)
    assert client.get(captures(experiment)).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_capture"))
    assert client.get(captures(experiment)).status_code == 200
