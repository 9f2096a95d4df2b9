"""The controller's processes log in to Redis as a user of its own, against a real server without a default user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from galileo_site.environment import PROJECT_ROOT
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.slow

USER = "gal"
# The controller's Redis client, and its Celery app as it sends a task, each in the form in which they are configured.
WHO = """
import galileo_site.celery, django
django.setup()
from routing.redis import redis_client
print(redis_client().acl_whoami())
with galileo_site.celery.app.connection_for_write() as connection:
    print(connection.default_channel.client.acl_whoami())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), username=USER) as running:
        yield running


def run(server: RedisServer, tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("galileo_", "DJANGO_"))}
    settings = {
        "secret_key": "tests-only-0123456789-abcdefghijklmnopqrstuvwxyz",
        "expdb_sqlite_path": str(tmp_path / "galileo.sqlite3"),
        "redis_port": str(server.port),
        "redis_username": USER,
        "redis_password": server.password,
        **variables,
    }
    environ = plain | {f"galileo_{name}": value for name, value in settings.items()}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environ, capture_output=True, text=True, timeout=60)


def test_clients_and_celery_log_in_as_the_user(server: RedisServer, tmp_path: Path) -> None:
    ended = run(server, tmp_path, "-c", WHO)
    assert (ended.stdout.split(), ended.returncode) == ([USER, USER], 0), ended.stderr


@pytest.mark.parametrize("arguments", [("manage.py", "check"), ("-m", "celery", "-A", "galileo_site", "beat")])
def test_misspelt_settings_end_the_controller(server: RedisServer, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    wrong = {"secret_kye": "s3cret", "redis_url": "redis://:s3cret@h/1", "expdb_drivers": "x", "admin_token": "s3cret"}
    ended = run(server, tmp_path, *arguments, **wrong)
    names = sorted(line.partition(": ")[0] for line in ended.stderr.splitlines())
    assert (ended.returncode, ended.stdout, names) == (1, "", sorted(f"galileo_{name}" for name in wrong))
    assert "s3cret" not in ended.stderr


def test_labels_of_workers_do_not_end_the_controller(server: RedisServer, tmp_path: Path) -> None:
    ended = run(server, tmp_path, "manage.py", "check", zone="A", labels="slot", slot="2")
    assert ended.returncode == 0, ended.stderr
