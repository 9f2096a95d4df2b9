"""The tests' own Redis server: password, data that outlives a restart, and no orphan."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.slow

PROJECT_ROOT = Path(__file__).parents[2]
PARENT = """
import sys, time
from pathlib import Path
from tests.support.redis_server import RedisServer
server = RedisServer(Path(sys.argv[1]))
server.start()
print(server.port, flush=True)
time.sleep(60)
"""


def test_only_who_knows_the_password_is_let_in(tmp_path):
    with RedisServer(tmp_path) as server:
        with server.client() as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        with (
            redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


def test_append_only_server_keeps_data_and_port_over_a_restart(tmp_path):
    with RedisServer(tmp_path, append_only=True) as server, server.client() as client:
        client.set("key", "value")
        port = server.port
        server.restart()
        assert server.port == port
        assert client.get("key") == b"value"


def test_an_append_only_server_has_its_data_after_a_kill(tmp_path):
    with RedisServer(tmp_path, append_only=True) as server, server.client() as client:
        client.set("key", "value")
        server.kill()
        assert not _answers(server.port)
        server.start()
        assert client.get("key") == b"value"


def test_a_stopped_server_is_gone_and_may_be_stopped_again(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    server.stop()
    server.stop()
    assert not _answers(server.port)


def test_a_server_dies_with_the_test_run_that_started_it(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, cwd=PROJECT_ROOT)
    assert parent.stdout is not None
    with parent:
        port = int(parent.stdout.readline())
        assert _answers(port)
        parent.send_signal(signal.SIGKILL)
    for _ in range(500):
        if not _answers(port):
            return
        time.sleep(0.01)
    pytest.fail("the server outlived the process that started it")


def _answers(port):
    try:
        with redis.Redis(port=port, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
            client.ping()
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        return False
    return True
