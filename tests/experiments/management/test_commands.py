"""`manage.py ensure_admin` and `manage.py set_route`."""

from __future__ import annotations

import io

import pytest
import redis
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from routing import selectors
from routing.redis.table import RedisRoutingTable
from routing.table import RoutingRecord

PASSWORD = "correct horse battery"


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=out)
    return out.getvalue()


# --- ensure_admin -----------------------------------------------------------------------------------------------------


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("galileo_admin_password", PASSWORD)
    return PASSWORD


@pytest.mark.django_db
def test_the_administrator_is_created_without_printing(password: str) -> None:
    out = run("ensure_admin")
    user = User.objects.get()
    assert (user.username, user.is_staff, user.is_superuser) == ("admin", True, True)
    assert user.check_password(password)
    assert "created" in out
    assert password not in out


@pytest.mark.django_db
def test_an_existing_administrator_is_updated(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("galileo_admin_user", "root")
    User.objects.create_user("root", password="another password", is_active=False)
    assert "up to date" in run("ensure_admin")
    user = User.objects.get()
    assert user.is_active
    assert user.is_superuser
    assert user.check_password(password)


@pytest.mark.django_db
def test_a_password_that_stays_keeps_its_sessions(password: str) -> None:
    run("ensure_admin")
    before = User.objects.get().password
    run("ensure_admin")
    assert User.objects.get().password == before


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["", "short", "eleven char"])
def test_a_short_password_is_refused_without_showing_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("galileo_admin_password", value)
    with pytest.raises(CommandError, match="galileo_admin_password: ") as caught:
        run("ensure_admin")
    assert not value or value not in str(caught.value)
    assert not User.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["a b", "x" * 151])
def test_a_wrong_user_name_is_refused(password: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("galileo_admin_user", name)
    with pytest.raises(CommandError, match="galileo_admin_user: "):
        run("ensure_admin")
    assert not User.objects.exists()


# --- set_route --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_route_is_set_printed_and_projected(broker: redis.Redis) -> None:
    out = run("set_route", "web", "a:1@1", "b:2@2.5", "[::1]:3")
    assert out == "RoutingRecord(service='web', hosts=['a:1', 'b:2', '[::1]:3'], weights=[1, 2.5, 1]) version 1\n"
    record = RoutingRecord("web", ["a:1", "b:2", "[::1]:3"], [1, 2.5, 1], 1)
    assert selectors.record("web") == record
    assert RedisRoutingTable(broker).read("web") == record


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["web", "a:1@x"], "'x' is not a number"),
        (["web", "a:1@-1"], r"weights\[0\]: "),
        (["web", "a:99999", "http://b"], r"hosts\[0\]: .*\nhosts\[1\]: "),
        (["a b", "a:1"], "service: "),
    ],
)
def test_a_wrong_route_is_refused_with_every_error(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run("set_route", *arguments)
    assert selectors.records() == []
