"""Which variables are settings, which are labels, and which are refused without a look at their values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadgen.protocol.settings import Reader, read_worker
from loadgen.protocol.variables import LABEL_SETTINGS, OWN_SETTINGS, is_one_edit, labels_of, refused_variables
from routing.errors import Code, InvalidInput

ROOT = Path(__file__).parents[3]
SECRET = "s3cret"


def refused(**variables: str) -> dict[str, Code]:
    """Full name → code of each refused variable; none of the sentences shows a value."""
    found = {}
    for name, code, message in refused_variables({f"galileo_{name}": value for name, value in variables.items()}):
        assert SECRET not in message
        found[name] = code
    return found


def test_each_galileo_variable_that_is_no_setting_is_a_label() -> None:
    environ = {"galileo_zone": "A", "galileo_rack": " 7 ", "galileo_redis_host": "h", "HOME": "/", "galileo_empty": ""}

    assert labels_of(environ) == {"zone": "A", "rack": "7"}


@pytest.mark.parametrize("name", ["api_token", "redis_password", "expdb_host", "expdb_driver", "labels", "admin_user"])
def test_settings_are_neither_labels_nor_refused(name: str) -> None:
    assert labels_of({f"galileo_{name}": "x"}) == {}
    assert refused(**{name: "x"}) == {}


def test_name_and_router_of_a_worker_are_labels_too() -> None:
    environ = {"galileo_worker_name": "pi3", "galileo_router_type": "DebugRouter"}
    assert labels_of(environ) == {"worker_name": "pi3", "router_type": "DebugRouter"}
    assert list(refused_variables(environ)) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("galileo_redis_pasword", "galileo_redis_password"),
        ("galileo_redis_passwordd", "galileo_redis_password"),
        ("galileo_redis_passw0rd", "galileo_redis_password"),
        ("galileo_redis_passwrod", "galileo_redis_password"),
        ("galileo_slot", "galileo_slots"),
        ("galileo_spool_di", "galileo_spool_dir"),
        ("galileo_worker_nam", "galileo_worker_name"),
        ("galileo_expdb_postgres_pasword", "galileo_expdb_postgres_password"),
        ("galileo_admin_users", "galileo_admin_user"),
        ("GALILEO_SLOTS", "galileo_slots"),
        ("galileo_Redis_Host", "galileo_redis_host"),
        ("galieo_slots", "galileo_slots"),
        ("agalileo_slots", "galileo_slots"),
        ("galileoslots", "galileo_slots"),
    ],
)
def test_misspelt_setting_is_refused_with_the_one_meant(name: str, meant: str) -> None:
    ((refused_name, code, message),) = refused_variables({name: SECRET})
    assert (refused_name, code) == (name, Code.UNKNOWN)
    assert f"did you mean {meant}?" in message and SECRET not in message
    assert labels_of({name: SECRET}) == {}


@pytest.mark.parametrize(
    "name",
    [
        "db_password", "my_passwd", "SECRET_thing", "api_tokens", "ssh_key", "credentials", "redis_auth", "auth",
        "Authorization", "passphrase", "redis_pass", "db_pwd", "apikey", "private_key", "creds", "jwt", "redis_pw",
        "pw", "sentry-dsn", "pin",
    ],
)  # fmt: skip
def test_name_that_looks_like_a_secret_is_refused(name: str) -> None:
    assert refused(**{name: SECRET}) == {f"galileo_{name}": Code.UNKNOWN}
    assert labels_of({f"galileo_{name}": SECRET}) == {}


@pytest.mark.parametrize(
    "name", ["zone", "rack", "site", "arch", "gpu", "spine", "pwm", "network", "certified", "login"]
)
def test_usual_label_does_not_look_like_a_secret(name: str) -> None:
    assert labels_of({f"galileo_{name}": "a"}) == {name: "a"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", f"redis://:{SECRET}@h/1"),
        ("redis_url", f"redis://:pa/{SECRET}@h:6379"),
        ("redis_url", f"redis://:pa?{SECRET}@h:6379"),
        ("redis_url", f"redis://u:pa#{SECRET}@h:6379/0"),
        ("redis_port", f"redis://u:pa/{SECRET}@h:6379/0"),
        ("router_static_host", f"http://user:pa/{SECRET}@pi"),
        ("broker", f"amqp://user:{SECRET}@h"),
        ("mirror", f"https://{SECRET}@host/path"),
        ("targets", f"a, http://user:{SECRET}@h"),
        ("redis_host", f"redis://:{SECRET}@h:6379/1"),
        ("router_static_host", f"http://user:{SECRET}@pi"),
        ("api_url", f"https://user:{SECRET}@controller/api"),
        ("labels", f"redis://:{SECRET}@h/1"),
    ],
)
def test_url_with_credentials_is_refused_in_any_variable(name: str, value: str) -> None:
    assert refused(**{name: value}) == {f"galileo_{name}": Code.FORMAT}
    with pytest.raises(InvalidInput) as caught:
        read_worker({f"galileo_{name}": value})
    assert [(error.path, error.code) for error in caught.value.errors] == [(f"galileo_{name}", Code.FORMAT)]
    assert SECRET not in caught.value.text


@pytest.mark.parametrize("value", [f"user:{SECRET}@host", f"redis://pa/{SECRET}@host", f"a/{SECRET}", f"{SECRET} x"])
@pytest.mark.parametrize("name", ["db", "zone", "worker_name"])
def test_wrong_value_of_a_label_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_worker({f"galileo_{name}": value})
    assert [error.path for error in caught.value.errors] == [f"galileo_{name}"]
    assert SECRET not in caught.value.text


@pytest.mark.parametrize("value", ["http://pi:8080/a", "redis://h/1", "user@host", "a://b/c@d", ""])
def test_url_without_credentials_is_not_refused(value: str) -> None:
    assert refused(place=value) == {}


def test_password_may_look_like_a_url() -> None:
    assert refused(redis_password="redis://:x@h", secret_key="a://b:c@d") == {}


def test_host_with_credentials_is_refused_without_its_value() -> None:
    reader = Reader({"galileo_redis_host": f"gal:{SECRET}@h"})
    assert reader.text("redis_host") == f"gal:{SECRET}@h"
    with pytest.raises(InvalidInput) as caught:
        read_worker({"galileo_redis_host": f"gal:{SECRET}@h"})
    assert [error.path for error in caught.value.errors] == ["galileo_redis_host"]
    assert SECRET not in caught.value.text


def test_static_host_with_a_user_is_refused_without_its_value() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_worker({"galileo_router_static_host": f"gal:{SECRET}@h"})
    assert [error.path for error in caught.value.errors] == ["galileo_router_static_host"]
    assert SECRET not in caught.value.text


def test_choice_that_a_password_may_be_meant_for_is_not_shown() -> None:
    reader = Reader({"galileo_api_auth": SECRET})
    assert reader.choice("api_auth", "required", ("required", "none")) == "required"
    with pytest.raises(InvalidInput) as caught:
        reader.raise_if_wrong()
    assert SECRET not in caught.value.text


def test_declared_names_are_labels_on_purpose() -> None:
    environ = {"galileo_labels": "slot, key_ring", "galileo_slot": "2", "galileo_key_ring": "east"}
    assert list(refused_variables(environ)) == []
    assert labels_of(environ) == {"slot": "2", "key_ring": "east"}
    assert read_worker(environ | {"galileo_worker_name": "pi"}).queues == [
        "galileo_key_ring=east", "galileo_slot=2", "galileo_worker_name=pi",
    ]  # fmt: skip


def test_declared_name_does_not_excuse_a_url_with_credentials() -> None:
    assert refused(labels="mirror", mirror=f"https://u:{SECRET}@h") == {"galileo_mirror": Code.FORMAT}


@pytest.mark.parametrize("name", ["slots", "redis_password", "worker_name", "expdb_driver"])
def test_setting_cannot_be_declared_as_a_label(name: str) -> None:
    assert refused(labels=f"zone,{name}") == {"galileo_labels": Code.CONFLICT}


def test_variables_without_a_value_are_not_refused() -> None:
    assert refused(redis_pasword="", slot=" ") == {}


def test_other_programs_variables_are_left_alone() -> None:
    assert list(refused_variables({"PASSWORD": "x", "GALLERY_KEY": "x", "API": "https://u:p@h"})) == []


SERVICE_LINKS = {
    "GALILEO_REDIS_SERVICE_HOST": "10.0.0.1", "GALILEO_REDIS_SERVICE_PORT": "6379",
    "GALILEO_REDIS_SERVICE_PORT_REDIS_HOST": "6379", "GALILEO_REDIS_PORT": "tcp://10.0.0.1:6379",
    "GALILEO_REDIS_PORT_6379_TCP": "tcp://10.0.0.1:6379", "GALILEO_REDIS_PORT_6379_TCP_PROTO": "tcp",
    "GALILEO_REDIS_PORT_6379_TCP_PORT": "6379", "GALILEO_REDIS_PORT_6379_TCP_ADDR": "10.0.0.1",
    "GALILEO_WEB_PORT": "tcp://10.0.0.2:5001", "GALILEO_WEB_PORT_53_UDP": "udp://10.0.0.2:53",
    "GALILEO_EXPDB_MYSQL_PORT": "tcp://[fd00::1]:3306",
}  # fmt: skip


def test_service_links_of_kubernetes_are_ignored() -> None:
    assert list(refused_variables(SERVICE_LINKS)) == []
    assert read_worker({"galileo_worker_name": "pi", **SERVICE_LINKS}).labels == {"worker_name": "pi"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("GALILEO_REDIS_PORT", "6379"), ("galileo_redis_por", "tcp://h:1"), ("GALILEO_REDIS_HOST", "http://h")],
)
def test_misspelt_setting_is_no_service_link(name: str, value: str) -> None:
    assert [refused_name for refused_name, _, _ in refused_variables({name: value})] == [name]


def test_no_setting_is_one_edit_from_a_usual_label() -> None:
    labels = ("zone", "rack", "city", "site", "arch", "gpu", "node", "region", "cluster", "building", "type")
    assert not [name for name in labels if any(is_one_edit(name, setting) for setting in OWN_SETTINGS)]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("ab", "ab", False),
        ("", "a", True),
        ("", "ab", False),
        ("ab", "ba", True),
        ("abcd", "abdc", True),
        ("abcd", "badc", False),
        ("abcd", "abxd", True),
        ("abcd", "axxd", False),
        ("abcd", "abcde", True),
        ("abcd", "bcd", True),
        ("abcd", "bc", False),
        ("aab", "aaab", True),
        ("abca", "cbaa", False),
        ("a", "b", True),
    ],
)
def test_one_edit_inserts_removes_replaces_or_swaps(one: str, other: str, expected: bool) -> None:
    assert is_one_edit(one, other) is is_one_edit(other, one) is expected


def test_each_setting_that_is_read_is_known_by_its_name() -> None:
    read = {
        name
        for folder in ("loadgen", "galileo_site", "experiments")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'reader\.(?:text|integer|number|choice|flag|folder)\(\s*"([a-z_]+)"', path.read_text())
    }
    assert len(read) > 30
    assert read <= OWN_SETTINGS | LABEL_SETTINGS
