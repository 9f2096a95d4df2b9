"""Attempts to log in with a password: limited by address, before the password is hashed."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.contrib.auth import hashers
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from rest_framework.exceptions import Throttled

from experiments import password_attempts, throttling
from experiments.api.schema import PROBLEM_JSON
from experiments.password_attempts import Answer, ProcessAttempts
from galileo_site.environment import Rate, read_site

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"
RIGHT, WRONG = "right-password", "wrong-password"


@pytest.fixture(autouse=True)
def three_an_hour(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.GALILEO_LOGIN_RATE = Rate(3, 3600)
    monkeypatch.setattr(throttling.broker_counter, "retry_at_s", 0.0)
    monkeypatch.setattr(throttling, "process_attempts", ProcessAttempts())


@pytest.fixture
def admin(db: None) -> User:
    return User.objects.create_superuser("admin", password=RIGHT)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were hashed."""
    found: list[str] = []
    real = hashers.MD5PasswordHasher.encode

    def encode(self: Any, password: str, *rest: Any) -> str:
        found.append(password)
        return real(self, password, *rest)

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", encode)
    return found


def log_in(client: Client, password: str, **extra: str) -> Any:
    return client.post(LOGIN, {"username": "admin", "password": password, "next": "/admin/"}, **extra)


def basic(client: Client, password: str, **extra: str) -> Any:
    credentials = b64encode(f"admin:{password}".encode()).decode()
    return client.get("/api", headers={"Authorization": f"Basic {credentials}"}, **extra)


def test_login_page_is_429_after_too_many_attempts(
    client: Client, admin: User, broker: redis.Redis, hashed: list[str]
) -> None:
    assert [log_in(client, WRONG).status_code for _ in range(3)] == [200, 200, 200]
    before = len(hashed)
    refused = log_in(client, RIGHT)
    assert (refused.status_code, len(hashed)) == (429, before)
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600
    assert "Too many attempts to log in" in refused.content.decode()
    assert "_auth_user_id" not in client.session


def test_basic_authentication_is_429_after_too_many_attempts(
    client: Client, admin: User, broker: redis.Redis, hashed: list[str]
) -> None:
    assert [basic(client, WRONG).status_code for _ in range(3)] == [401, 401, 401]
    before = len(hashed)
    refused = basic(client, RIGHT)
    assert (refused.status_code, len(hashed)) == (429, before)
    assert refused.headers["Content-Type"] == PROBLEM_JSON
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600


def test_both_ways_count_together(client: Client, admin: User, broker: redis.Redis) -> None:
    assert [log_in(client, WRONG).status_code, basic(client, WRONG).status_code] == [200, 401]
    assert [log_in(client, WRONG).status_code, basic(client, WRONG).status_code] == [200, 429]
    assert log_in(client, WRONG).status_code == 429


def test_unknown_users_count_as_known_ones(client: Client, broker: redis.Redis) -> None:
    assert [basic(client, WRONG).status_code for _ in range(5)] == [401, 401, 401, 429, 429]


def test_right_passwords_are_not_limited(client: Client, admin: User, broker: redis.Redis) -> None:
    assert {basic(client, RIGHT).status_code for _ in range(10)} == {200}
    assert log_in(client, RIGHT).status_code == 302
    client.logout()
    assert [basic(client, WRONG).status_code for _ in range(4)] == [401, 401, 401, 429]


class Hashing:
    """A hash that takes a time: how many passwords are hashed at once, and which were hashed at all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes_s: float) -> None:
        self.at_once = self.most_at_once = 0
        self.passwords: list[str | None] = []
        self._takes_s = takes_s
        self._lock = threading.Lock()
        monkeypatch.setattr(ModelBackend, "authenticate", self._authenticate)

    def _authenticate(self, request: Any, username: str | None, password: str | None, **fields: Any) -> User | None:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.passwords.append(password)
        time.sleep(self._takes_s)
        with self._lock:
            self.at_once -= 1
        return User(username=username) if password == RIGHT else None


def attempted(passwords: list[str]) -> list[str]:
    """What becomes of attempts that begin at the same time, from one address: right, wrong or refused."""
    begin = threading.Barrier(len(passwords))

    def attempt(password: str) -> str:
        begin.wait()
        try:
            user = throttling.PasswordBackend().authenticate(RequestFactory().get("/"), "admin", password)
        except Throttled:
            return "refused"
        return "wrong" if user is None else "right"

    with ThreadPoolExecutor(len(passwords)) as pool:
        return list(pool.map(attempt, passwords))


@pytest.fixture(params=["broker", "process"])
def counted_by(request: pytest.FixtureRequest) -> str:
    """Where attempts are counted: both ways must hold the limit."""
    if request.param == "broker":
        request.getfixturevalue("broker")
    return str(request.param)


@pytest.mark.usefixtures("counted_by")
def test_more_right_passwords_than_the_limit_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashing = Hashing(monkeypatch, 0.05)
    assert attempted([RIGHT] * 16) == ["right"] * 16
    assert hashing.most_at_once <= 3
    assert attempted([WRONG] * 8).count("wrong") == 3  # none of the right ones stays counted


@pytest.mark.usefixtures("counted_by")
def test_limit_of_wrong_passwords_holds_for_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashing = Hashing(monkeypatch, 0.05)
    found = attempted([WRONG, RIGHT] * 8)
    assert found.count("wrong") == hashing.passwords.count(WRONG) == 3
    assert set(attempted([RIGHT] * 3)) == {"refused"}


@pytest.mark.usefixtures("counted_by")
def test_attempt_that_waits_too_long_is_refused_and_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    Hashing(monkeypatch, 1.0)
    monkeypatch.setattr(throttling, "MAX_WAIT_S", 0.0)
    assert sorted(attempted([RIGHT] * 8)) == ["refused"] * 5 + ["right"] * 3
    assert attempted([RIGHT] * 3) == ["right"] * 3


def test_attempt_of_a_killed_process_is_forgotten(broker: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password_attempts, "LONGEST_ATTEMPT_S", 0.05)
    attempts = throttling.broker_attempts
    assert attempts.begin("galileo:login:rate:x", "a", 1, 60) == (Answer.ADMITTED, 0.0)
    assert attempts.begin("galileo:login:rate:x", "b", 1, 60) == (Answer.BUSY, 0.0)
    time.sleep(0.06)
    assert attempts.begin("galileo:login:rate:x", "b", 1, 60) == (Answer.ADMITTED, 0.0)


def test_wrong_attempt_counts_if_the_broker_fails_meanwhile(
    broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def authenticate(*args: Any, **fields: Any) -> None:
        throttling.broker_counter.retry_at_s = time.monotonic() + 60

    monkeypatch.setattr(ModelBackend, "authenticate", authenticate)
    for _ in range(3):
        assert attempted([WRONG]) == ["wrong"]
    assert attempted([WRONG]) == ["refused"]


def test_period_is_not_longer_after_the_brokers_clock_was_set_back(broker: redis.Redis) -> None:
    attempts, key = throttling.broker_attempts, "galileo:login:rate:x"
    attempts.begin(key, "a", 1, 60)
    attempts.end(key, "a", True, 60)
    broker.pexpire(key, 150_000)
    assert attempts.begin(key, "b", 1, 60) == (Answer.REFUSED, 60.0)
    assert broker.pttl(key) <= 60_000


def test_another_address_is_not_affected(client: Client, admin: User, broker: redis.Redis) -> None:
    for _ in range(5):
        basic(client, WRONG)
    assert basic(client, RIGHT).status_code == 429
    assert basic(client, RIGHT, REMOTE_ADDR="10.0.0.2").status_code == 200


def test_client_behind_a_trusted_proxy_has_its_own_limit(
    client: Client, admin: User, broker: redis.Redis, settings: Any
) -> None:
    proxies = read_site({"galileo_secret_key": "x", "galileo_trusted_proxies": "127.0.0.1"}).trusted_proxies
    settings.GALILEO_TRUSTED_PROXIES = proxies
    attacker = {"HTTP_X_FORWARDED_FOR": "203.0.113.5"}
    assert [log_in(client, WRONG, **attacker).status_code for _ in range(4)] == [200, 200, 200, 429]
    # What the client itself has sent comes first, and does not count.
    assert log_in(client, RIGHT, HTTP_X_FORWARDED_FOR="9.9.9.9, 203.0.113.5").status_code == 429
    assert log_in(client, RIGHT, HTTP_X_FORWARDED_FOR="203.0.113.6").status_code == 302


def test_header_of_a_client_that_is_no_proxy_does_not_count(client: Client, admin: User, broker: redis.Redis) -> None:
    codes = [basic(client, WRONG, HTTP_X_FORWARDED_FOR=f"9.9.9.{number}").status_code for number in range(4)]
    assert codes == [401, 401, 401, 429]


def test_counts_expire_and_never_exceed_the_buckets(client: Client, admin: User, broker: redis.Redis) -> None:
    for number in range(8):
        basic(client, WRONG, REMOTE_ADDR=f"2001:db8::{number}")  # one network
    (key,) = broker.keys(f"{throttling.PASSWORD_PREFIX}*")
    assert 0 < broker.ttl(key) <= 3600
    assert len(key) == len(throttling.PASSWORD_PREFIX) + 4
    broker.delete(key)  # as if the time were over
    assert basic(client, RIGHT, REMOTE_ADDR="2001:db8::1").status_code == 200


def test_without_a_broker_each_process_counts(client: Client, admin: User) -> None:
    assert [log_in(client, WRONG).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert log_in(client, RIGHT, REMOTE_ADDR="10.0.0.2").status_code == 302


def test_period_of_a_process_begins_with_a_wrong_attempt() -> None:
    now = [100.0]
    attempts = ProcessAttempts(lambda: now[0])
    for attempt, wrong in (("a", False), ("b", True), ("c", True)):
        assert attempts.begin("key", attempt, 2, 10) == (Answer.ADMITTED, 0.0)
        assert attempts.end("key", attempt, wrong, 10)
    now[0] = 106.0
    assert attempts.begin("key", "d", 2, 10) == (Answer.REFUSED, 4.0)
    assert attempts.begin("other", "d", 2, 10) == (Answer.ADMITTED, 0.0)
    now[0] = 110.0
    assert attempts.begin("key", "d", 2, 10) == (Answer.ADMITTED, 0.0)


def test_without_a_limit_nothing_is_counted(client: Client, admin: User, broker: redis.Redis, settings: Any) -> None:
    settings.GALILEO_LOGIN_RATE = None
    assert {basic(client, WRONG).status_code for _ in range(6)} == {401}
    assert broker.keys(f"{throttling.PASSWORD_PREFIX}*") == []


def test_programs_without_a_request_are_not_limited(client: Client, admin: User, broker: redis.Redis) -> None:
    assert not any(client.login(username="admin", password=WRONG) for _ in range(5))
    assert client.login(username="admin", password=RIGHT)


def test_error_of_another_view_is_left_to_django(client: Client) -> None:
    middleware = throttling.LoginLimitMiddleware(lambda request: None)  # type: ignore[arg-type,return-value]
    assert middleware.process_exception(None, ValueError("x")) is None  # type: ignore[arg-type]
