"""What a running Galileo has stored, read past it: with SQL, from SQLite or PostgreSQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.database_servers import Postgres


class Stored:
    """Reads the SQLite file `path`, or from `postgres` if there is one."""

    def __init__(self, path: Path, postgres: Postgres | None) -> None:
        self._path = path
        self._postgres = postgres

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows; `?` stands for a parameter on both."""
        if self._postgres is None:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=20)) as connection:
                return connection.execute(sql, parameters).fetchall()
        with closing(self._postgres.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), parameters)
            return list(cursor.fetchall())
