"""Client apps from the repository, to workers that have none of their own; a broken one fails its group alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.archives import app_archive
from tests.support.galileo import Galileo
from tests.support.http_target import HttpTarget
from tests.support.ids import begin_of
from tests.support.plans import plan_data

SHOP = b"""
import itertools

numbers = itertools.count()
token = "none"

def next_request():
    return "post", f"/orders/{context.parameters['shop']}/{next(numbers)}/{token}"

def on_response(response):
    global token
    token = f"{response.status}-{response.text}"
"""
MANIFEST = b"name: shop\nparameters: {shop: {type: string}}\n"
STUCK = b"""
calls = 0

def next_request():
    global calls
    calls += 1
    while calls > 5:
        pass
    return "get", "/stuck"
"""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Galileo]:
    """Two workers without apps of their own, and the web server."""
    directory = tmp_path_factory.mktemp("apps")
    variables = {"galileo_apps_dir": ""}
    with Galileo(directory, {"worker-a": "A", "worker-b": "B"}, with_web=True, variables=variables) as running:
        yield running


def deploy(stand: Galileo, archive: bytes) -> None:
    answer = stand.web.request("POST", "/apps", data=archive)
    assert answer.status_code == 201, answer.text


def paths_of(target: HttpTarget, experiment_id: str) -> list[str]:
    return [path for _, name, _, path in target.log() if name.startswith(begin_of(experiment_id))]


def test_app_that_hangs_fails_its_group_alone(stand: Galileo, target: HttpTarget) -> None:
    deploy(stand, app_archive(manifest=b"name: stuck", generator=STUCK))
    plan = plan_data(client="stuck", ticks=[10] * 10, duration=10, worker_labels={"zone": "A"}, clients_per_host=1)
    plan["configuration"]["workloads"].append({"service": "web", "ticks": [10] * 10, "worker_labels": {"zone": "B"}})
    plan["routing"][0]["hosts"] = [target.host]
    experiment_id = stand.web.begin(plan)
    stand.wait_for_status(experiment_id, "FAILED", "FINISHED")
    shown = stand.web.experiment(experiment_id)
    said = f"shard {experiment_id}.0/0: client app 'stuck', client 0: next_request() did not return within 3 s\n"
    assert shown["reason"].startswith(said)
    assert "generator.py, line 8, in next_request" in shown["reason"] or "line 7" in shown["reason"]
    assert not [event for event in shown["events"] if event["name"] in ("shard lost", "shard ordered again")]
    (other,) = [shard for shard in shown["summary"]["shards"] if shard["shard"] == f"{experiment_id}.1/0"]
    assert (other["status"], other["attempt"]) == ("FINISHED", 1)
    assert paths_of(target, experiment_id).count("/stuck") == 5


def test_app_reaches_all_workers_and_its_version_is_kept(stand: Galileo, target: HttpTarget) -> None:
    deploy(stand, app_archive(manifest=MANIFEST, generator=SHOP))
    plan = plan_data(client="shop", client_parameters={"shop": "linz"}, clients_per_host=2)
    plan["routing"][0]["hosts"] = [target.host]
    experiment_id = stand.web.begin(plan)
    deploy(stand, app_archive(manifest=MANIFEST, generator=b"1 / 0"))  # a later version is for later experiments
    stand.wait_for_status(experiment_id, "FINISHED", "FAILED")
    assert stand.web.experiment(experiment_id)["status"] == "FINISHED", stand.log_tails()
    paths = paths_of(target, experiment_id)
    # Each of the two clients, one on each worker, counts for itself and hears its own responses.
    assert sorted(paths) == sorted(
        f"/orders/linz/{number}/{'200-ok' if number else 'none'}" for number in range(10) for _ in range(2)
    )
    plan["configuration"]["workloads"][0]["clients_per_host"] = 1  # of two shards either may be the first to fail
    again = stand.web.begin(plan)
    stand.wait_for_status(again, "FINISHED", "FAILED")
    shown = stand.web.experiment(again)
    assert shown["status"] == "FAILED"
    assert "client app 'shop', client 0: generator.py raised ZeroDivisionError" in shown["reason"]
    assert "  generator.py, line 1, in <module>: 1 / 0" in shown["reason"]


def test_parameters_are_held_against_what_the_app_declares(stand: Galileo) -> None:
    deploy(stand, app_archive(manifest=MANIFEST, generator=SHOP))
    answer = stand.web.request("POST", "/experiments", json=plan_data(client="shop", client_parameters={"shop": 5}))
    assert answer.status_code == 400
    field = "configuration.workloads[0].client_parameters.shop"
    assert answer.json()["errors"] == [{"field": field, "code": "type", "message": "must be a string, got 5"}]
