"""These tests run on whatever database the settings name: SQLite in a plain run, and each of the others in turn."""

import pytest
from django.db import connection

from tests.databases import rows


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "database(sqlite=True, only=None): must hold on every database (make test-databases); sqlite=False: where"
        " several write; only: on the database of this vendor",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what the database at hand cannot show; SQLite takes one writer at a time."""
    left_out = [item for item in items if not all(map(_concerns, item.iter_markers("database")))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _concerns(mark: pytest.Mark) -> bool:
    if connection.vendor == "sqlite" and not mark.kwargs.get("sqlite", True):
        return False
    return mark.kwargs.get("only") in (None, connection.vendor)


@pytest.fixture
def one_of_each(db) -> dict[type, object]:
    """A stored row of every model, by model."""
    return rows.one_of_each()
