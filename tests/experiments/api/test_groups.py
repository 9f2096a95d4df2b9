"""Interactive client groups over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.test import Client

from experiments.models import ClientGroup
from experiments.services import groups as services
from loadgen.protocol import keys
from loadgen.protocol.codec import from_json
from loadgen.protocol.enums import ShardState
from loadgen.protocol.messages import GroupDocument
from tests.support.fleet import Fleet

pytestmark = pytest.mark.django_db(transaction=True)

GROUPS = "/api/groups"


def post(api: Client, path: str, data: Any) -> Any:
    return api.post(path, json.dumps(data), content_type="application/json")


@pytest.fixture
def group(api: Client, fleet: Fleet) -> dict[str, Any]:
    fleet.join("pi-1")
    answer = post(api, GROUPS, {"service": "s", "num": 3})
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"groups/{answer.json()['id']}"  # relative to /api/groups
    return dict(answer.json())


def test_a_group_is_spawned_commanded_changed_and_closed(
    api: Client, broker: redis.Redis, group: dict[str, Any]
) -> None:
    path = f"{GROUPS}/{group['id']}"
    assert (group["service"], group["creator"], group["ready"], group["does"]) == ("s", "admin", False, "nothing")
    assert post(api, f"{path}/command", {"rps": 2.5}).json() == {"number": 2}
    shown = api.get(path).json()
    assert (shown["does"], shown["sends"], shown["info"]) == ("2.5 requests/s each", "GET /", [])
    assert post(api, f"{path}/command", {"n": 5, "ia": ["expovariate", 2]}).json() == {"number": 3}
    assert api.get(path).json()["does"] == "5 requests each, gaps of expovariate(lambd=2)"
    assert post(api, f"{path}/clients", {"add": 2}).status_code == 200
    assert [each["id"] for each in api.get(GROUPS).json()] == [group["id"]]
    assert api.delete(path).status_code == 204
    assert api.get(GROUPS).json() == []
    document = from_json(GroupDocument, broker.hget(keys.group_key(group["id"]), "document"))
    assert document.state == "stop"
    answer = post(api, f"{path}/command", {"rps": 1})
    assert (answer.status_code, "is closed" in answer.json()["detail"]) == (409, True)


def test_gaps_come_from_redis_lists_and_not_from_files(
    api: Client, broker: redis.Redis, fleet: Fleet, group: dict[str, Any]
) -> None:
    fleet.say(ShardState.READY)
    services.follow(group["id"])
    path = f"{GROUPS}/{group['id']}"
    for index in range(2):
        broker.lpush(f"{group['id']}.{index}", "0.5", "1")
    before = list(ClientGroup.objects.values())
    for ia, reason in {
        ("prerecorded",): f"the list '{group['id']}.2' is missing in Redis",
        ("prerecorded", "/etc/hostname"): "a file cannot be read here",
    }.items():
        answer = post(api, f"{path}/command", {"ia": ia})
        assert answer.status_code == 400
        ((field, message),) = [(error["field"], error["message"]) for error in answer.json()["errors"]]
        assert (field, reason in message) == ("ia", True)
    assert list(ClientGroup.objects.values()) == before
    broker.lpush(f"{group['id']}.2", "0.25")
    assert post(api, f"{path}/command", {"ia": ["prerecorded", "any word"]}).status_code == 200
    phase = from_json(GroupDocument, broker.hget(keys.group_key(group["id"]), "document")).phase
    assert phase is not None
    assert phase.recorded == {"0": [0.5, 1.0], "1": [0.5, 1.0], "2": [0.25]}


@pytest.mark.parametrize(
    ("path", "data", "field"),
    [
        ("", {"num": 1}, "service"),
        ("", {"service": "s", "num": "many"}, "num"),
        ("/{id}/command", {"rps": -1}, "rps"),
        ("/{id}/command", {}, "n"),
        ("/{id}/clients", {"add": 0}, "add"),
        ("/{id}/clients", {}, "add"),
    ],
)
def test_bad_input_is_refused_with_its_field_and_changes_nothing(
    api: Client, group: dict[str, Any], path: str, data: Any, field: str
) -> None:
    before = list(ClientGroup.objects.values())
    answer = post(api, GROUPS + path.format(id=group["id"]), data)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert list(ClientGroup.objects.values()) == before


def test_without_a_worker_or_a_slot_it_is_a_503_with_the_reason(api: Client, fleet: Fleet) -> None:
    answer = post(api, GROUPS, {"service": "s"})
    assert (answer.status_code, "no worker is running" in answer.json()["detail"]) == (503, True)
    fleet.join("pi-1", slots=1)
    assert post(api, GROUPS, {"service": "s"}).status_code == 201
    answer = post(api, GROUPS, {"service": "s"})
    assert (answer.status_code, "no free slot" in answer.json()["detail"]) == (503, True)


@pytest.mark.parametrize("method", ["get", "delete"])
def test_an_unknown_group_is_a_404(api: Client, method: str) -> None:
    assert getattr(api, method)(f"{GROUPS}/g-nothere").status_code == 404


def test_view_permission_cannot_make_load(client: Client, group: dict[str, Any]) -> None:
    user = User.objects.create_user("reader")
    user.user_permissions.add(Permission.objects.get(codename="view_clientgroup"))
    client.force_login(user)
    assert client.get(GROUPS).status_code == 200
    assert post(client, GROUPS, {"service": "s"}).status_code == 403
    assert post(client, f"{GROUPS}/{group['id']}/command", {"rps": 1}).status_code == 403
    assert client.delete(f"{GROUPS}/{group['id']}").status_code == 403


def test_a_group_with_queue_placement_waits_for_workers(api: Client, fleet: Fleet) -> None:
    data = {"service": "s", "num": 3, "placement": "queue", "shards": 2}
    refused = post(api, GROUPS, data)
    assert [error["field"] for error in refused.json()["errors"]] == ["worker_labels"]
    answer = post(api, GROUPS, {**data, "worker_labels": {"zone": "A"}})
    assert (answer.status_code, answer.json()["ready"]) == (201, False)
    assert len(fleet.orders_in("galileo_zone=A")) == 2
