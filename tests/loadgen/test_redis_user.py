"""A worker that logs in to Redis as a user of its own, against a real server without a default user."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

from loadgen.broker.options import celery_options
from loadgen.device.redis_connections import async_client, blocking_client, brisk_client
from loadgen.protocol.enums import DesiredState
from loadgen.protocol.keys import label_queue
from loadgen.protocol.settings import RedisSettings
from tests.support.redis_server import RedisServer
from tests.support.shards import IngestByHand, document_of, order_of, put_document, send_order, state_of
from tests.support.worker_process import ROOT, WorkerProcess, wait_until

pytestmark = pytest.mark.slow

USER = "gal"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), username=USER) as running:
        yield running


@pytest.fixture
def settings(server: RedisServer) -> RedisSettings:
    return RedisSettings("127.0.0.1", server.port, server.password, USER)


def test_every_kind_of_client_logs_in_as_the_user(settings: RedisSettings) -> None:
    async def asynchronous() -> object:
        client = async_client(settings)
        try:
            return await client.acl_whoami()
        finally:
            await client.aclose()

    for make in (blocking_client, brisk_client):
        client = make(settings)
        assert client.acl_whoami() == USER
        client.close()
    assert asyncio.run(asynchronous()) == USER


def test_celery_logs_in_as_the_user(settings: RedisSettings) -> None:
    app = Celery("tests", set_as_current=False, fixups=[])
    app.conf.update(celery_options(settings))
    with app.connection_for_write() as connection:
        assert connection.default_channel.client.acl_whoami() == USER
    app.close()


def test_worker_registers_and_takes_orders_as_the_user(server: RedisServer, tmp_path: Path) -> None:
    with (
        redis.Redis.from_url(server.url) as store,
        WorkerProcess(server, "wa", tmp_path, zone="A") as worker,
        IngestByHand(server, store) as ingest,
    ):
        info = worker.info()
        assert info is not None
        assert info.labels == {"worker_name": "wa", "zone": "A"}
        put_document(store, document_of("g1", state=DesiredState.STOP))
        send_order(server, label_queue("zone", "A"), order_of(1, "g1"))
        wait_until(lambda: state_of(store, 1) == "stopped")
        wait_until(lambda: ingest.take() is None, what="the end of the batches")
        assert {client["user"] for client in store.client_list()} == {USER}


def refused(server: RedisServer, tmp_path: Path, **variables: str) -> str:
    """What a worker prints that ends with status 2."""
    environ = WorkerProcess(server, "wa", tmp_path, **variables).environ
    command = [sys.executable, "-m", "loadgen.worker"]
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    return ended.stderr


@pytest.mark.parametrize(
    "variables", [{"redis_username": ""}, {"redis_username": "other"}, {"redis_password": "wrong"}]
)
def test_wrong_user_or_password_ends_the_worker(server: RedisServer, tmp_path: Path, variables: dict[str, str]) -> None:
    told = refused(server, tmp_path, **variables)
    assert "galileo_redis_password: Redis refuses it" in told
    assert ("of galileo_redis_username" in told) == (variables.get("redis_username") != "")


def test_user_without_permissions_ends_the_worker(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", username=USER, rules="~other:* +@connection +ping") as server:
        told = refused(server, tmp_path)
    assert told.startswith("galileo_redis_username: Redis does not permit this user")


def test_misspelt_settings_end_the_worker_without_their_values(server: RedisServer, tmp_path: Path) -> None:
    wrong = {"redis_pasword": "s3cret", "slot": "2", "redis_url": "redis://:s3cret@h/1", "db_token": "s3cret"}
    told = refused(server, tmp_path, **wrong)
    assert sorted(line.partition(": ")[0] for line in told.splitlines()) == sorted(f"galileo_{name}" for name in wrong)
    assert "s3cret" not in told
