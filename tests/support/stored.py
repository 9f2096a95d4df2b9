"""Reads what a running Galileo has stored, from SQLite or PostgreSQL: through the models, or with SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from tests.support.database_servers import Postgres

_ALIAS = "stored"
_LOCKED_FOR_S = 20


class Stored:
    """Reads the SQLite file `path`, or from `postgres` if there is one. Each read opens a connection of its own."""

    def __init__(self, path: Path, postgres: Postgres | None) -> None:
        self._path = path
        self._postgres = postgres

    def read(self, rows: QuerySet[Any, Any]) -> list[Any]:
        """The rows of an unevaluated queryset."""
        with self._connected():
            return list(rows.using(_ALIAS))

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a statement; `?` stands for a parameter on both databases."""
        if self._postgres is None:
            uri = f"file:{self._path}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_LOCKED_FOR_S)) as connection:
                return connection.execute(sql, parameters).fetchall()
        with closing(self._postgres.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), parameters)
            return list(cursor.fetchall())

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """The database as a Django alias, for a moment only: pytest-django makes a test database for each alias."""
        connections.settings[_ALIAS] = {**connections.settings["default"], "OPTIONS": {}, **self._settings()}
        connection = connections[_ALIAS]
        # pytest-django replaces this method by one that protects the test database; this is another database.
        vars(connection)["ensure_connection"] = lambda: None
        try:
            connection.connect()
            yield
        finally:
            connection.close()
            del connections[_ALIAS], connections.settings[_ALIAS]

    def _settings(self) -> dict[str, Any]:
        if self._postgres is None:
            name = f"file:{self._path}?mode=ro"
            return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": {"timeout": _LOCKED_FOR_S}}
        server = self._postgres
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": server.name,
            "USER": server.name,
            "PASSWORD": server.password,
            "HOST": "127.0.0.1",
            "PORT": server.port,
        }
