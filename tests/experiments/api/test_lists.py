"""Lists of the API: plain arrays as in the original, with parts and filters."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import redis
from django.test import Client

from experiments.models import Experiment
from experiments.plans import parse_group
from experiments.services import apps, groups, workers
from routing import services as routing
from tests.support import batches
from tests.support.archives import app_archive
from tests.support.messages import errors_of
from tests.support.workers import register

pytestmark = pytest.mark.django_db

EXPERIMENTS = "/api/experiments"


def links(answer: Any) -> dict[str, str]:
    """The addresses of the parts beside this one."""
    return {rel: address for address, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers.get("Link", ""))}


def ids(answer: Any, name: str = "id") -> list[str]:
    assert answer.status_code == 200, answer.content
    return [item[name] for item in answer.json()]


def test_a_list_without_parameters_is_complete(api: Client) -> None:
    made = [batches.make_experiment().id for _ in range(3)]
    answer = api.get(EXPERIMENTS)
    assert sorted(ids(answer)) == made
    assert (answer.headers["X-Total-Count"], "Link" in answer.headers) == ("3", False)


def test_links_lead_to_the_other_parts_with_the_filters(api: Client) -> None:
    made = [batches.make_experiment(status="FINISHED").id for _ in range(5)]
    batches.make_experiment(status="FAILED")
    address, found, totals = f"{EXPERIMENTS}?status=FINISHED&limit=2", [], []
    for _ in range(10):
        answer = api.get(address)
        found.append(ids(answer))
        totals.append(answer.headers["X-Total-Count"])
        if "next" not in links(answer):
            break
        address = urljoin(address, links(answer)["next"])
    assert [len(part) for part in found] == [2, 2, 1]
    assert sorted(itertools.chain(*found)) == made
    assert set(totals) == {"5"}
    assert ids(api.get(urljoin(address, links(answer)["prev"]))) == found[1]


def test_filters_of_experiments_match_exactly(api: Client) -> None:
    first, second = batches.make_experiment(), batches.make_experiment(status="FINISHED")
    Experiment.objects.filter(id=second.id).update(name="night run", creator="ann")
    assert ids(api.get(f"{EXPERIMENTS}?creator=ann")) == [second.id]
    assert ids(api.get(f"{EXPERIMENTS}?name=test&creator=tester")) == [first.id]
    assert ids(api.get(f"{EXPERIMENTS}?name=night run&status=FINISHED")) == [second.id]
    assert ids(api.get(f"{EXPERIMENTS}?name=night")) == []


def test_workers_are_filtered_by_labels(api: Client, broker: redis.Redis) -> None:
    for name, zone in (("pi-1", "A"), ("pi-2", "A"), ("pi-3", "B")):
        register(broker, name, labels={"zone": zone, "worker_name": name})
    workers.sync_workers()
    assert ids(api.get("/api/workers?label=zone=A"), "name") == ["pi-1", "pi-2"]
    assert ids(api.get("/api/workers?label=galileo_zone=A&label=worker_name=pi-2"), "name") == ["pi-2"]
    assert ids(api.get("/api/workers?limit=1&offset=2"), "name") == ["pi-3"]
    assert ids(api.get("/api/workers?label=zone="), "name") == []
    assert api.get("/api/worker?label=zone=A&limit=1&offset=1").json() == ["pi-2"]


def test_routing_records_services_and_apps_are_listed_in_parts(
    api: Client, broker: redis.Redis, settings, tmp_path: Path
) -> None:
    settings.GALILEO_APPS_REPO_DIR = tmp_path / "apps"
    for service, host in (("a", "h1:80"), ("b", "h2:80"), ("c", "h1:80")):
        routing.set_record(service, [host, f"{service}:1"])
    for name, creator in (("shop", "ann"), ("other", "bob")):
        apps.upload(app_archive(manifest=f"name: {name}".encode()), creator)
    assert ids(api.get("/api/routing?host=h1:80"), "service") == ["a", "c"]
    assert ids(api.get("/api/routing?limit=1&offset=1"), "service") == ["b"]
    assert len(api.get("/api/services?limit=2").json()) == 2
    assert api.get("/api/services?limit=2").headers["X-Total-Count"] == "3"
    assert ids(api.get("/api/apps?creator=ann"), "name") == ["shop"]
    assert ids(api.get("/api/apps?limit=1"), "name") == ["other"]
    assert len(api.get("/api/apps/shop/versions?offset=1").json()) == 0


@pytest.mark.django_db(transaction=True)
def test_groups_are_filtered_by_service_and_creator(api: Client, broker: redis.Redis) -> None:
    register(broker, "pi-1")
    first, second = (
        groups.spawn(parse_group({"service": service}), creator) for service, creator in (("s", "ann"), ("t", "bob"))
    )
    assert ids(api.get("/api/groups?service=s")) == [first.id]
    assert ids(api.get("/api/groups?creator=bob")) == [second.id]
    assert ids(api.get("/api/groups?service=s&creator=bob")) == []


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", ["limit"]),
        ("limit=10001&offset=-1", ["limit", "offset"]),
        ("limit=1&limit=2", ["limit"]),
        ("limit=%2B1&offset=1.0", ["limit", "offset"]),
        ("status=RUNNING&nmae=x", ["status", "nmae"]),
        ("format=csv", ["format"]),
        ("creator=", ["creator"]),
    ],
)
def test_each_wrong_parameter_is_named(api: Client, query: str, fields: list[str]) -> None:
    answer = api.get(f"{EXPERIMENTS}?{query}")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == fields


@pytest.mark.parametrize("path", ["groups", "services", "worker", "workers", "routing", "apps"])
def test_every_list_knows_its_parameters(api: Client, path: str) -> None:
    answer = api.get(f"/api/{path}?limit=many&page=2")
    assert errors_of(answer) == [("limit", "format"), ("page", "unknown")]


def test_an_invalid_label_is_refused(api: Client) -> None:
    answer = api.get("/api/workers?label=zone")
    assert errors_of(answer) == [("label[0]", "format")]
