"""Writes traces as each database takes them fastest: binary COPY on PostgreSQL, statements of many rows elsewhere.

PyMySQL makes such of an executemany by itself.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from typing import Any, Final

import numpy as np
from django.db import connection

from experiments.ingest.binary_copy import Column, copy_data
from experiments.ingest.received import Integers, ReceivedBatch
from experiments.models import Trace
from experiments.models.trace import trace_key
from loadgen.protocol.batch import NO_HOST, NO_TIME

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
# A statement of so many takes SQLite two thirds of the time that it takes for them one by one; more gain nothing.
SQLITE_ROWS: Final = 50
_INTEGER_BYTES = {"smallint": 2, "integer": 4, "bigint": 8}


class Traces:
    """The traces of a batch, in the form in which the database takes them, made before a transaction holds a lock."""

    def __init__(self, batch: ReceivedBatch) -> None:
        self._rows = batch.header.rows
        # Tuples are made while they are written: thousands at once would set off the garbage collector.
        self._data: Any = (
            copy_data(_binary(batch)) if connection.vendor == "postgresql" else zip(*_values(batch), strict=True)
        )

    def write(self) -> None:
        """Inserts them, within the caller's transaction, once."""
        columns = {field.name: connection.ops.quote_name(str(field.column)) for field in Trace._meta.concrete_fields}
        names = ", ".join(columns[name] for name in FIELDS)
        target = f"{connection.ops.quote_name(Trace._meta.db_table)} ({names})"
        with connection.cursor() as cursor:
            if isinstance(self._data, bytes):
                copy = f"COPY {target} FROM STDIN (FORMAT binary)"
                cursor.cursor.copy_expert(copy, io.BytesIO(self._data), len(self._data))
            else:
                insert, marks = f"INSERT INTO {target} VALUES ", f"({', '.join(['%s'] * len(FIELDS))})"
                for rows, parameters in self._statements():
                    cursor.executemany(insert + ", ".join([marks] * rows), parameters)

    def _statements(self) -> Iterator[tuple[int, Any]]:
        """How many rows a statement has, and the parameters of each such statement."""
        if connection.vendor != "sqlite":
            yield 1, self._data
            return
        values = chain.from_iterable(self._data)
        full, rest = divmod(self._rows, SQLITE_ROWS)
        yield SQLITE_ROWS, _parts(values, SQLITE_ROWS * len(FIELDS), full)
        if rest:
            yield rest, [tuple(values)]


def _parts(values: Iterator[Any], length: int, number: int) -> Iterator[tuple[Any, ...]]:
    return (tuple(islice(values, length)) for _ in range(number))


def _values(batch: ReceivedBatch) -> list[Iterable[Any]]:
    """The columns of FIELDS as Python values."""
    header, columns = batch.header, batch.columns
    first = trace_key(header.shard_id, header.first_row)
    intended, *times = batch.times_ns()
    names = dict(enumerate(header.hosts)) | {NO_HOST: ""}
    return [
        range(first, first + header.rows),
        repeat(header.experiment_id, header.rows),
        repeat(header.shard_id, header.rows),
        columns["client"].tolist(),
        columns["sequence"].tolist(),
        intended.tolist(),
        *(_with_none(time, NO_TIME) for time in times),
        columns["outcome"].tolist(),
        _with_none(columns["status"], 0),
        map(names.__getitem__, columns["host"].tolist()),
        columns["size"].tolist(),
        columns["routing_version"].tolist(),
    ]


def _with_none(values: Integers, missing: int) -> list[Any]:
    """The values as a list, with None for `missing`; most columns have none, and stay without an object array."""
    gaps = np.flatnonzero(values == missing)
    listed: list[Any] = values.tolist()
    for index in gaps.tolist():
        listed[index] = None
    return listed


def _binary(batch: ReceivedBatch) -> list[Column]:
    """The columns of FIELDS for COPY."""
    header, columns = batch.header, batch.columns
    first = trace_key(header.shard_id, header.first_row)
    intended, *times = batch.times_ns()
    hosts = [host.encode() for host in [*header.hosts, ""]]
    same = np.zeros(header.rows, dtype=np.int64)
    return [
        _integers("id", np.arange(first, first + header.rows)),
        Column(same, texts=[str(header.experiment_id).encode()]),
        _integers("shard", same + header.shard_id),
        _integers("client", columns["client"]),
        _integers("sequence", columns["sequence"]),
        _integers("intended_ns", intended),
        *(_integers(name, time, NO_TIME) for name, time in zip(FIELDS[6:9], times, strict=True)),
        _integers("outcome", columns["outcome"]),
        _integers("status", columns["status"], 0),
        Column(np.where(columns["host"] == NO_HOST, len(header.hosts), columns["host"]), texts=hosts),
        _integers("size", columns["size"]),
        _integers("routing_version", columns["routing_version"]),
    ]


def _integers(name: str, values: Integers, missing: int | None = None) -> Column:
    kind = str(Trace._meta.get_field(name).db_type(connection))
    return Column(values, _INTEGER_BYTES[kind], missing)
