"""Fixtures of the worker's tests."""

from collections.abc import Iterator

import pytest
import redis

from tests.support.http_target import HttpTarget
from tests.support.redis_server import RedisServer


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the server, which is emptied first."""
    client = redis_server.client()
    client.flushall()
    yield client
    client.close()


@pytest.fixture(scope="session")
def target() -> Iterator[HttpTarget]:
    """A target that answers at once, for the whole run; its log is told apart by group ids."""
    with HttpTarget() as responder:
        yield responder
