"""The routing table over REST: the same services, errors at their fields, permissions of the models."""

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from rest_framework.authtoken.models import Token

from routing import selectors, services
from routing.table import RoutingRecord
from tests.support.messages import errors_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("client")]

ROUTING = "/api/routing"


@pytest.fixture
def api():
    token = Token.objects.create(user=User.objects.create_superuser("ada"))
    return Client(headers={"Authorization": f"Token {token.key}"})


def send(api, method, path, body):
    return getattr(api, method)(path, json.dumps(body), content_type="application/json")


def test_a_record_is_added_shown_changed_and_removed(api, redis_table):
    added = send(api, "post", ROUTING, {"service": "s", "hosts": ["a:80", "b:80"], "weights": [1, 2.5]})
    shown = {"service": "s", "hosts": ["a:80", "b:80"], "weights": [1.0, 2.5], "version": 1}
    assert (added.status_code, added.json(), added.headers["Location"]) == (201, shown, "routing/s")
    assert api.get(f"{ROUTING}/s").json() == shown
    assert api.get(ROUTING).json() == [shown]
    changed = send(api, "patch", f"{ROUTING}/s", {"weights": [3, 4]})
    assert (changed.status_code, changed.json()) == (200, {**shown, "weights": [3.0, 4.0], "version": 2})
    assert redis_table.read("s") == RoutingRecord("s", ["a:80", "b:80"], [3, 4], 2)
    assert api.delete(f"{ROUTING}/s").status_code == 204
    assert redis_table.services() == []
    assert {revision.changed_by for revision in selectors.revisions(["s"])} == {"ada"}


def test_a_put_sets_a_record_whether_there_is_one_or_not(api):
    assert send(api, "put", f"{ROUTING}/s", {"hosts": ["a", "b"]}).json()["weights"] == [1.0, 1.0]
    answer = send(api, "put", f"{ROUTING}/s", {"hosts": ["c"], "weights": [2]})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)


def test_a_service_that_has_a_record_cannot_be_added(api):
    before = services.set_record("s", ["a"])
    answer = send(api, "post", ROUTING, {"service": "s", "hosts": ["b"]})
    assert answer.status_code == 409
    assert selectors.record("s") == before


@pytest.mark.parametrize(("method", "body"), [("get", None), ("patch", {"weights": [1]}), ("delete", None)])
@pytest.mark.parametrize("service", ["nobody", "two%20words", "%00", "é"])
def test_a_service_without_a_record_is_not_found(api, method, body, service):
    answer = send(api, method, f"{ROUTING}/{service}", body) if body else getattr(api, method)(f"{ROUTING}/{service}")
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (
            {"service": "a b", "hosts": ["a:0", "b"], "weights": [-1, 1]},
            {"service": "format", "hosts[0]": "format", "weights[0]": "range"},
        ),
        ({"service": "s", "hosts": ["a", "b"], "weights": [1]}, {"weights": "conflict"}),
        ({"service": "s", "hosts": "a"}, {"hosts": "type"}),
        (
            {"service": 3, "hosts": [None], "weights": ["x"]},
            {"service": "type", "hosts[0]": "type", "weights[0]": "type"},
        ),
        ({"service": "S", "hosts": ["a"]}, {}),
        ({"hosts": None, "wieghts": [1]}, {"wieghts": "unknown", "service": "required", "hosts": "required"}),
        ([1], {"body": "type"}),
    ],
)
def test_each_error_of_a_body_has_its_path_and_code(api, body, wrong):
    answer = send(api, "post", ROUTING, body)
    if not wrong:
        assert answer.status_code == 201
        return
    assert (answer.status_code, errors_of(answer)) == (400, list(wrong.items()))
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert selectors.records() == []


def test_a_name_that_differs_only_in_case_is_refused(api):
    services.set_record("service", ["a"])
    assert errors_of(send(api, "put", f"{ROUTING}/Service", {"hosts": ["b"]})) == [("service", "duplicate")]


def test_an_unreadable_body_is_refused(api):
    answer = api.post(ROUTING, '{"service": "s", "service": "t"}', content_type="application/json")
    assert (answer.status_code, errors_of(answer)) == (400, [("body", "duplicate")])


def test_a_trailing_slash_makes_no_difference(api):
    services.set_record("s", ["a"])
    assert api.get(f"{ROUTING}/").json() == api.get(ROUTING).json()
    assert api.get(f"{ROUTING}/s/").json() == api.get(f"{ROUTING}/s").json()
    assert api.get(f"{ROUTING}s").status_code == 404
    assert api.get(f"{ROUTING}/s/t").status_code == 404


def test_reading_and_each_kind_of_change_need_their_permission():
    services.set_record("s", ["a"])
    user = User.objects.create_user("bob")
    api = Client()
    api.force_login(user)
    body = {"hosts": ["b"]}
    needs = [
        ("view", lambda: api.get(ROUTING).status_code, 200),
        ("add", lambda: send(api, "post", ROUTING, {"service": "t", **body}).status_code, 201),
        ("change", lambda: send(api, "patch", f"{ROUTING}/s", body).status_code, 200),
        ("delete", lambda: api.delete(f"{ROUTING}/s").status_code, 204),
    ]
    for action, ask, allowed in needs:
        assert ask() == 403
        user.user_permissions.add(Permission.objects.get(codename=f"{action}_routingrecord"))
        assert ask() == allowed
    assert Client().get(ROUTING).status_code == 401


def test_a_put_needs_the_permissions_to_add_and_to_change():
    user = User.objects.create_user("bob")
    api = Client()
    api.force_login(user)
    for action, expected in (("change", 403), ("add", 200)):
        user.user_permissions.add(Permission.objects.get(codename=f"{action}_routingrecord"))
        assert send(api, "put", f"{ROUTING}/s", {"hosts": ["a"]}).status_code == expected
