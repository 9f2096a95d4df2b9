"""The embedded Redis-compatible server, started for real."""

from __future__ import annotations

import stat
from pathlib import Path

import psutil
import pytest
import redis

from galileo_site.stack import ports, processes
from galileo_site.stack.embedded_redis import server_spec
from galileo_site.stack.processes import Child
from loadgen.interruption import Interruption

pytestmark = pytest.mark.slow
PASSWORD = "of-this-test"


def start(directory: Path) -> tuple[Child, redis.Redis]:
    port = ports.pick_free()
    child = processes.start(server_spec(directory, port, PASSWORD, directory / "log"))
    processes.wait_ready([child], Interruption(), lambda _: None)
    return child, redis.Redis(port=port, password=PASSWORD)


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    child, client = start(tmp_path)
    client.set("kept", "value")
    client.close()
    assert processes.stop([child], Interruption()) == []
    assert child.exit_status() == 0
    child, client = start(tmp_path)
    assert client.get("kept") == b"value"
    client.close()
    processes.stop([child], Interruption())


def test_it_needs_the_password_and_never_evicts_keys(tmp_path: Path) -> None:
    child, client = start(tmp_path)
    settings = client.config_get("bind", "maxmemory-policy", "appendonly", "appendfsync", "save")
    assert settings == {
        "bind": "127.0.0.1",
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
    }
    port = client.connection_pool.connection_kwargs["port"]
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    client.close()
    processes.stop([child], Interruption())


def test_its_password_cannot_be_read_by_other_users(tmp_path: Path) -> None:
    child, client = start(tmp_path)
    client.close()
    assert PASSWORD not in " ".join(psutil.Process(child.pid).cmdline())
    processes.stop([child], Interruption())
    for path in tmp_path.rglob("*"):
        if path.is_file() and PASSWORD.encode() in path.read_bytes():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
