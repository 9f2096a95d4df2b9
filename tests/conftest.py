"""Fixtures that every test may use."""

from collections.abc import Iterator

import pytest
import redis

from loadgen.broker.options import redis_options
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis-compatible server for the whole run; take `broker` for an empty one."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def broker(redis_server: RedisServer, settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The server, emptied, as the broker of Django's side: a client of it."""
    from experiments.services import dispatch
    from galileo_site.celery import app
    from loadgen.protocol.environment import RedisSettings
    from routing.redis import redis_client

    del app  # imported so that the controller's tasks are known
    site = settings.SITE.__class__(
        **{**vars(settings.SITE), "redis": RedisSettings("127.0.0.1", redis_server.port, redis_server.password)}
    )
    settings.SITE = site
    settings.GALILEO_REDIS_URL = site.redis.url
    redis_client.cache_clear()
    dispatch._sender.cache_clear()
    client = redis.Redis.from_url(site.redis.url, **redis_options())
    client.flushall()
    yield client
    client.close()
    redis_client().close()
    redis_client.cache_clear()
    dispatch._sender().close()
    dispatch._sender.cache_clear()
