"""Writes traces as each database takes them fastest: COPY on PostgreSQL, one executemany elsewhere.

PyMySQL makes one statement of many rows of an executemany; SQLite prepares the statement once.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from django.db import connection

from experiments.models import Trace

FIELDS = (
    "id",
    "experiment",
    "shard",
    "client",
    "sequence",
    "intended_ns",
    "dispatched_ns",
    "sent_ns",
    "done_ns",
    "outcome",
    "status",
    "host",
    "size",
    "routing_version",
)
TraceColumns = list[Iterable[Any]]

_HOST = FIELDS.index("host")
_NULLABLE = tuple(FIELDS.index(name) for name in ("dispatched_ns", "sent_ns", "done_ns", "status"))
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def write_traces(columns: TraceColumns) -> None:
    """Inserts traces, given as columns in the order of FIELDS, within the caller's transaction."""
    if connection.vendor == "postgresql":
        _copy(columns)
    else:
        _insert(columns)


def _names() -> str:
    columns = {field.name: str(field.column) for field in Trace._meta.concrete_fields}
    return ", ".join(connection.ops.quote_name(columns[name]) for name in FIELDS)


def _insert(columns: TraceColumns) -> None:
    table = connection.ops.quote_name(Trace._meta.db_table)
    marks = ", ".join(["%s"] * len(FIELDS))
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} ({_names()}) VALUES ({marks})", list(zip(*columns, strict=True)))


def _copy(columns: TraceColumns) -> None:
    table = connection.ops.quote_name(Trace._meta.db_table)
    with connection.cursor() as cursor:
        cursor.cursor.copy_expert(f"COPY {table} ({_names()}) FROM STDIN", io.StringIO(copy_text(columns)))


def copy_text(columns: TraceColumns) -> str:
    r"""The rows in COPY's text format: tabs between fields, \N for null."""
    texts = list(columns)
    for position in _NULLABLE:
        texts[position] = ["\\N" if value is None else value for value in columns[position]]
    escaped: dict[str, str] = {}
    texts[_HOST] = [escaped.get(host) or escaped.setdefault(host, host.translate(_ESCAPES)) for host in columns[_HOST]]
    line = "\t".join(["%s"] * len(FIELDS)) + "\n"
    return "".join([line % row for row in zip(*texts, strict=True)])
