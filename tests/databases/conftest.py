"""These tests run on whatever database the settings name: SQLite in a plain run, and each of the others in turn."""

import pytest
from django.db import connection

from tests.databases import rows


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "database(sqlite=True): must hold on every database (make test-databases); sqlite=False: where several write",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out, on SQLite, what needs several writers: it takes one at a time."""
    if connection.vendor != "sqlite":
        return
    left_out = [
        item for item in items if not all(mark.kwargs.get("sqlite", True) for mark in item.iter_markers("database"))
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def one_of_each(db) -> dict[type, object]:
    """A stored row of every model, by model."""
    return rows.one_of_each()
