"""A database that is really away while telemetry comes: nothing of it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from galileo_site.environment import PROJECT_ROOT
from tests.support.database_servers import Postgres
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

ID = "202611220101-ab12"
EXPERIMENT = f"""
from django.utils import timezone
from experiments.models import Experiment
from experiments.services import partitions
now = timezone.now()
partitions.add({ID!r})
about = {{"id": {ID!r}, "name": "t", "creator": "t", "status": "RUNNING", "seed": 1}}
Experiment.objects.create(**about, created_at=now, starting_at=now, started_at=now)
"""
RECORDER = "import threading; from experiments.recording import Recorder; Recorder().run(threading.Event())"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def shell(code: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(PROJECT_ROOT / "manage.py"), "shell", "-c", code]
    with log.open("ab") as output:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def test_telemetry_waits_for_a_database_that_was_stopped(
    redis_server: RedisServer, postgres: Postgres, tmp_path: Path
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("galileo_", "DJANGO_"))},
        **postgres.environment,
        "galileo_redis_port": str(redis_server.port),
        "galileo_redis_password": redis_server.password,
        "galileo_secret_key": "only-for-this-test-0123456789-abcdefghijklmnopqrstuvwxyz",
    }
    manage = [sys.executable, str(PROJECT_ROOT / "manage.py")]
    subprocess.run([*manage, "migrate", "--verbosity=0"], env=environment, check=True, timeout=120)
    log = tmp_path / "recorder.log"
    assert shell(EXPERIMENT, environment, log).wait(60) == 0, log.read_text()
    with redis_server.client() as broker:
        recorder = shell(RECORDER, environment, log)
        try:
            wait_for(lambda: broker.pubsub_channels("galileo/events"), "the recorder")
            sent = 0
            for away in (False, True, False):
                if away:
                    postgres.crash()
                for _ in range(500):
                    sent += publish(broker, sent)
                if away:
                    wait_for(lambda: "the database is away" in log.read_text(), "the recorder to notice")
                    postgres.recover()
                    wait_for(lambda: "the database is back" in log.read_text(), "the recorder to go on")
            wait_for(lambda: stored(postgres) >= sent, f"{sent} samples", 20)
        finally:
            recorder.kill()
            recorder.wait()
    assert stored(postgres) == sent == 1500
    assert log.read_text().count("the database is away") == 1


def publish(broker: redis.Redis, number: int) -> int:
    """How many heard it."""
    return int(broker.publish("telem/pi/cpu", f"170000{number:04d}.5 {number}"))


def stored(postgres: Postgres) -> int:
    connection = postgres.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM experiments_telemetrysample WHERE experiment_id = %s", [ID])
            return int(cursor.fetchone()[0])
    finally:
        connection.close()
