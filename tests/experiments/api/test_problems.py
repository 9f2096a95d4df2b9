"""Errors of the API: each is a problem document of the same form."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from rest_framework.authtoken.models import Token

from experiments import selectors
from experiments.api.schema import PROBLEM_JSON

pytestmark = pytest.mark.django_db

JSON = "application/json"
EXPERIMENTS = "/api/experiments"


@pytest.fixture
def headers(db: None) -> dict[str, str]:
    return {"Authorization": f"Token {Token.objects.create(user=User.objects.create_superuser('admin')).key}"}


@pytest.fixture
def api(headers: dict[str, str]) -> Client:
    return Client(headers=headers)


def problem(answer: Any, status: int) -> dict[str, Any]:
    """The problem that an answer is."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, PROBLEM_JSON)
    said: dict[str, Any] = answer.json()
    assert set(said) == {"type", "title", "status", "detail", "errors"}
    assert (said["type"], said["status"]) == ("about:blank", status)
    assert said["detail"]
    assert all(set(error) == {"field", "code", "message"} for error in said["errors"])
    return said


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status", "fields"),
    [
        ("post", EXPERIMENTS, {}, JSON, 400, ["configuration"]),
        ("post", EXPERIMENTS, "{", JSON, 400, ["body"]),
        ("post", EXPERIMENTS, "a: 1", "text/yaml", 415, []),
        ("post", EXPERIMENTS, " " * 1_100_000, JSON, 413, []),
        ("post", "/api/groups", {"num": 0}, JSON, 400, ["service", "num"]),
        ("post", "/api/routing", {"service": "s"}, JSON, 400, ["hosts"]),
        ("patch", "/api/routing/s", {}, JSON, 400, ["body"]),
        ("post", "/api/apps", "no zip", "application/zip", 400, ["archive"]),
        ("get", f"{EXPERIMENTS}/202611220000-none", None, JSON, 404, []),
        ("get", f"{EXPERIMENTS}/202611220000-none/traces?format=csv", None, JSON, 404, []),
        ("get", "/api/groups/g-none", None, JSON, 404, []),
        ("get", "/api/routing/none", None, JSON, 404, []),
        ("get", "/api/apps/none", None, JSON, 404, []),
        ("get", "/api/nothing/here", None, JSON, 404, []),
        ("put", EXPERIMENTS, {}, JSON, 405, []),
        ("options", EXPERIMENTS, {}, JSON, 405, []),
    ],
)
def test_every_error_is_a_problem_document(
    api: Client, method: str, path: str, body: Any, kind: str, status: int, fields: list[str]
) -> None:
    data = body if isinstance(body, str) or body is None else json.dumps(body)
    answer = api.get(path) if method == "get" else getattr(api, method)(path, data, content_type=kind)
    assert [error["field"] for error in problem(answer, status)["errors"]] == fields


def test_405_names_the_allowed_methods(api: Client) -> None:
    assert api.put(EXPERIMENTS).headers["Allow"] == "GET, HEAD, POST"


def test_an_unknown_media_type_is_a_problem(api: Client) -> None:
    problem(api.get(EXPERIMENTS, headers={"Accept": "image/png"}), 406)


def test_401_names_the_authentication_scheme(client: Client, headers: dict[str, str]) -> None:
    for wrong in ({}, {"Authorization": "Token nonsense"}, {"Authorization": "Basic nonsense"}):
        answer = client.get(EXPERIMENTS, headers=wrong)
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Token"


def test_a_session_needs_its_csrf_token(db: None) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.create_superuser("admin"))
    assert "CSRF" in problem(browser.post(EXPERIMENTS, "{}", content_type=JSON), 403)["detail"]


def test_an_error_of_a_csv_request_is_a_problem(api: Client) -> None:
    answer = api.get(f"{EXPERIMENTS}/202611220000-none/telemetry", headers={"Accept": "text/csv"})
    assert "202611220000-none" in problem(answer, 404)["detail"]


def test_a_missing_broker_is_a_503(api: Client) -> None:
    answer = api.post("/api/groups", json.dumps({"service": "s"}), content_type=JSON)
    assert "broker" in problem(answer, 503)["detail"]


def test_a_missing_database_is_a_503_with_the_reason_in_the_log(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(selectors, "experiments", fail)
    answer = Client(headers=headers).get(EXPERIMENTS)
    assert "database" in problem(answer, 503)["detail"]
    assert "server closed the connection" not in answer.content.decode()
    assert "server closed the connection" in caplog.text


def test_an_internal_error_is_logged_and_not_shown(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(selectors, "experiments", fail)
    answer = Client(raise_request_exception=False, headers=headers).get(EXPERIMENTS)
    assert "secret" not in json.dumps(problem(answer, 500))
    assert "a secret of the inside" in caplog.text
    with pytest.raises(RuntimeError, match="a secret of the inside"):
        Client(headers=headers).get(EXPERIMENTS)


@pytest.mark.parametrize("path", ["/api", EXPERIMENTS, "/api/routing/s/"])
def test_an_unknown_host_is_a_problem(client: Client, path: str) -> None:
    problem(client.get(path, headers={"Host": "elsewhere.example"}), 400)


def test_pages_outside_the_api_have_djangos_errors(client: Client) -> None:
    for path in ("/apix", "/nothing"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert client.get("/admin/", headers={"Host": "elsewhere.example"}).headers["Content-Type"].startswith("text/html")


def test_a_missing_worker_is_a_503(api: Client, broker: redis.Redis) -> None:
    answer = api.post("/api/groups", json.dumps({"service": "s"}), content_type=JSON)
    problem(answer, 503)
