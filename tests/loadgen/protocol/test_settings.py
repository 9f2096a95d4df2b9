"""Settings from the environment: labels, secrets, and every error at once."""

import pytest

from loadgen.protocol.settings import read_worker
from routing.errors import Code, InvalidInput


def test_the_workers_name_is_a_label_too() -> None:
    assert read_worker({"galileo_worker_name": "pi3", "galileo_zone": "A"}).labels == {
        "zone": "A",
        "worker_name": "pi3",
    }


def test_all_errors_are_named_at_once(tmp_path) -> None:
    environ = {
        "galileo_worker_name": "two words",
        "galileo_redis_port": "70000",
        "galileo_slots": "0",
        "galileo_spool_limit_mb": "much",
        "galileo_logging_level": "LOUD",
        "galileo_apps_dir": str(tmp_path / "nowhere"),
        "galileo_zone": "a/b",
        "galileo_trace_logging": "mysql",
        "galileo_trace_limit_mb": "1",
        "galileo_telemetry_interval_s": "0.05",
        "galileo_apps_cache_limit_mb": "1",
    }

    with pytest.raises(InvalidInput) as caught:
        read_worker(environ)

    assert {error.path for error in caught.value.errors} == set(environ)


@pytest.mark.parametrize("interval", ["-1", "nan", "inf", "3601", "often", "0.01"])
def test_an_interval_of_telemetry_that_makes_no_sense_is_refused(interval: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_worker({"galileo_telemetry_interval_s": interval})
    assert [error.path for error in caught.value.errors] == ["galileo_telemetry_interval_s"]


def test_telemetry_is_published_each_second_by_default() -> None:
    assert read_worker({}).telemetry_interval_s == 1.0
    assert read_worker({"galileo_telemetry_interval_s": "0"}).telemetry_interval_s == 0.0
    assert read_worker({"galileo_telemetry_interval_s": "2.5"}).labels.keys() == {"worker_name"}


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(read_worker({"galileo_redis_password": "hunter2"}))


def test_traces_go_to_the_database_alone_by_default() -> None:
    assert read_worker({}).trace_logging == "sql"


def test_files_of_traces_need_a_folder() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_worker({"galileo_trace_logging": "file"})
    assert [(error.path, error.code) for error in caught.value.errors] == [("galileo_trace_dir", Code.REQUIRED)]
    assert str(read_worker({"galileo_trace_logging": "file", "galileo_trace_dir": "/data/t"}).trace_dir) == "/data/t"


def test_the_default_router_is_a_label_with_the_originals_names() -> None:
    assert (read_worker({}).router, "router_type" in read_worker({}).labels) == ("host", False)
    settings = read_worker({"galileo_router_type": "StaticRouter", "galileo_router_static_host": "http://pi:8080/a"})
    assert (settings.router, settings.static_host) == ("static", "http://pi:8080/a")
    assert settings.labels["router_type"] == "StaticRouter"
    assert "router_static_host" not in settings.labels


def test_a_wrong_router_or_place_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_worker({"galileo_router_type": "nginx", "galileo_router_static_host": "ftp://pi"})
    assert [(error.path, error.code) for error in caught.value.errors] == [
        ("galileo_router_type", Code.CHOICE),
        ("galileo_router_static_host", Code.FORMAT),
    ]
    assert "host, service, static, debug, SymmetryHostRouter" in caught.value.text


def test_misspelt_settings_and_secrets_are_named_together() -> None:
    environ = {
        "galileo_redis_pasword": "s3cret",
        "galileo_redis_url": "redis://:s3cret@h/1",
        "galileo_slot": "2",
        "galileo_slots": "0",
        "galileo_db_token": "s3cret",
    }

    with pytest.raises(InvalidInput) as caught:
        read_worker(environ)

    assert {error.path for error in caught.value.errors} == set(environ)
    assert "s3cret" not in caught.value.text


@pytest.mark.parametrize(
    ("username", "password", "credentials"),
    [("", "", ""), ("", "p w", ":p%20w@"), ("gal", "p@w", "gal:p%40w@"), ("g:l", "", "g%3Al:@")],
)
def test_credentials_are_part_of_the_brokers_url(username: str, password: str, credentials: str) -> None:
    settings = read_worker({"galileo_redis_username": username, "galileo_redis_password": password})
    assert settings.redis.url == f"redis://{credentials}127.0.0.1:6379/0"
    assert "username" not in settings.labels and "redis_username" not in settings.labels
