"""The rate limit of the API."""

from __future__ import annotations

import logging

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.authtoken.models import Token

from experiments import throttling
from experiments.api.schema import PROBLEM_JSON
from galileo_site.environment import Rate, read_site
from loadgen.protocol.variables import labels_of
from routing.errors import InvalidInput

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def rate(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three requests an hour, and no error of the broker before."""
    settings.GALILEO_API_RATE = Rate(3, 3600)
    monkeypatch.setattr(throttling.broker_counter, "retry_at_s", 0.0)


def user(name: str) -> Client:
    token = Token.objects.create(user=User.objects.create_user(name))
    return Client(headers={"Authorization": f"Token {token.key}"})


def test_too_many_requests_are_a_429_with_retry_after(db: None, broker: redis.Redis) -> None:
    ann, bob = user("ann"), user("bob")
    assert [ann.get("/api").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    answer = ann.get("/api")
    assert (answer.headers["Content-Type"], answer.json()["status"]) == (PROBLEM_JSON, 429)
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert bob.get("/api").status_code == 200


def test_the_count_is_in_the_broker_and_expires(db: None, broker: redis.Redis) -> None:
    ann = user("ann")
    for _ in range(4):
        answer = ann.get("/api")
    (key,) = broker.keys(f"{throttling.KEY_PREFIX}*")
    assert (answer.status_code, broker.get(key), 0 < broker.ttl(key) <= 3600) == (429, b"4", True)
    broker.delete(key)  # as if the time were over
    assert ann.get("/api").status_code == 200


def test_requests_without_credentials_count_by_address(client: Client, broker: redis.Redis) -> None:
    wrong = {"Authorization": "Token nonsense"}
    assert [client.get("/api", headers=wrong).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert client.get("/api").status_code == 429
    assert client.get("/api", REMOTE_ADDR="10.0.0.2").status_code == 401


def test_without_a_limit_nothing_is_counted(client: Client, broker: redis.Redis, settings) -> None:
    settings.GALILEO_API_RATE = None
    assert user("ann").get("/api").status_code == 200
    assert broker.keys(f"{throttling.KEY_PREFIX}*") == []


def test_without_a_broker_requests_are_not_limited(db: None, caplog: pytest.LogCaptureFixture) -> None:
    ann = user("ann")
    with caplog.at_level(logging.WARNING):
        assert {ann.get("/api").status_code for _ in range(6)} == {200}
    assert caplog.text.count("requests to the API are not limited now") == 1


# --- The setting ------------------------------------------------------------------------------------------------------

BASE = {"galileo_secret_key": "x"}


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("", Rate(6000, 60)),
        ("none", None),
        ("5/s", Rate(5, 1)),
        ("100/min", Rate(100, 60)),
        ("100000/hour", Rate(100_000, 3600)),
    ],
)
def test_the_rate_is_read(text: str, rate: Rate | None) -> None:
    assert read_site({**BASE, "galileo_api_rate": text}).api_rate == rate


@pytest.mark.parametrize("text", ["0/s", "many", "5", "5/day", "-1/s", "1.5/s", "5 / s"])
def test_a_wrong_rate_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="galileo_api_rate: "):
        read_site({**BASE, "galileo_api_rate": text})


def test_the_rate_is_not_a_label_of_a_worker() -> None:
    assert labels_of({"galileo_api_rate": "5/s", "galileo_zone": "A"}) == {"zone": "A"}
