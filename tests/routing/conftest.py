"""The routing table's tests share one empty Redis, which the services under test use as well."""

from collections.abc import Iterator

import pytest

from routing.redis import redis_client
from routing.redis.table import RedisRoutingTable
from tests.support.redis_server import RedisServer


@pytest.fixture
def client(redis_server: RedisServer, settings) -> Iterator:
    """The services' own client, of an empty server."""
    settings.GALILEO_REDIS_URL = redis_server.url
    settings.GALILEO_REDIS_OPTIONS = {}
    redis_client.cache_clear()
    client = redis_client()
    client.flushall()
    yield client
    client.close()
    redis_client.cache_clear()


@pytest.fixture
def redis_table(client) -> RedisRoutingTable:
    """The table in that server."""
    return RedisRoutingTable(client)


@pytest.fixture
def switch_redis(settings, client) -> Iterator:
    """Switches the services' Redis: `switch_redis(False)` gives them one that is not there."""
    url = settings.GALILEO_REDIS_URL

    def switch(on: bool) -> None:
        settings.GALILEO_REDIS_URL = url if on else "redis://127.0.0.1:1/0"
        redis_client.cache_clear()

    yield switch
    switch(True)
