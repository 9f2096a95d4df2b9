"""Fixtures that every test may use."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.management.commands import flush
from django.db import connection

import tests.support.examples  # noqa: F401 - registers the profile before pytest loads it
from tests.support.redis_server import RedisServer

MADE_BY_MIGRATIONS = {"auth_permission", "django_content_type"}
NEEDS_A_DATABASE = {"db", "transactional_db", "live_server"}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another database than SQLite, deselects the tests that use none: they would do the same once more.

    In parallel processes, puts the longest files first, so that no process is left alone with one of them at the end.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        _put_longest_files_first(items)
    if connection.vendor == "sqlite":
        return
    left_out = [
        item
        for item in items
        if item.get_closest_marker("django_db") is None
        and not NEEDS_A_DATABASE.intersection(getattr(item, "fixturenames", ()))
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _put_longest_files_first(items: list[pytest.Item]) -> None:
    """Sorts by a guess of each file's duration, and lets files that wait alternate with files that compute."""
    tests: Counter[Path] = Counter(item.path for item in items)
    slow: Counter[Path] = Counter(item.path for item in items if item.get_closest_marker("slow") is not None)
    fast = Counter({path: number for path, number in tests.items() if path not in slow})
    ranks = {path: (rank, 0) for rank, (path, _) in enumerate(slow.most_common())}
    ranks |= {path: (rank, 1) for rank, (path, _) in enumerate(fast.most_common())}
    items.sort(key=lambda item: ranks[item.path])


@pytest.fixture(scope="session", autouse=True)
def flush_keeps_permissions() -> Iterator[None]:
    """After a test with transaction=True, Django empties all tables and makes permissions again; here, it keeps them.

    That takes 20 ms instead of 150 ms. All tests share these rows; none changes them.
    """

    def statements(style: Any, database: Any, reset_sequences: bool = True, allow_cascade: bool = False) -> list[str]:
        names = database.introspection.django_table_names(only_existing=True, include_views=False)
        emptied = [name for name in names if name not in MADE_BY_MIGRATIONS]
        return list(
            database.ops.sql_flush(style, emptied, reset_sequences=reset_sequences, allow_cascade=allow_cascade)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "sql_flush", statements)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *_args, **_options: None)
        yield


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis-compatible server for the whole run; take `broker` for an empty one."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def broker(redis_server: RedisServer, settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The server, emptied, as the broker of Django's side: the controller's client of it."""
    from experiments.services import sending
    from galileo_site.celery import app
    from loadgen.protocol.settings import RedisSettings
    from routing.redis import redis_client

    del app  # imported so that the controller's tasks are known
    site = settings.SITE.__class__(
        **{**vars(settings.SITE), "redis": RedisSettings("127.0.0.1", redis_server.port, redis_server.password)}
    )
    settings.SITE = site
    settings.GALILEO_REDIS_URL = site.redis.url
    redis_client.cache_clear()
    sending._sender.cache_clear()
    client = redis_client()
    client.flushall()
    yield client
    client.close()
    redis_client.cache_clear()
    sending._sender().close()
    sending._sender.cache_clear()
