"""Writes traces with the fastest means of each database: binary COPY on PostgreSQL, statements of many rows elsewhere.

The binary format (PostgreSQL's documentation of COPY, "Binary Format") is a header; for each row the number of its
fields, and for each field its length and its value, big-endian, or the length -1 for null; a trailer. Rows with the
same nulls and the same texts have the same layout, so each set of such rows is one structured array.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any, Final

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from experiments.ingest.received import Integers, ReceivedBatch
from experiments.models import Trace
from experiments.models.trace import trace_key
from loadgen.protocol.trace_batch import NO_HOST, NO_TIME

FIELDS = (
    "id", "experiment", "shard", "client", "sequence", "intended_ns", "dispatched_ns", "sent_ns", "done_ns", "outcome",
    "status", "host", "size", "routing_version", "reason", "resent",
    "address",
)  # fmt: skip
# Statements of 50 rows take SQLite two thirds of the time of single rows; more rows gain nothing.
SQLITE_ROWS: Final = 50
_INTEGER_BYTES = {"smallint": 2, "integer": 4, "bigint": 8}

_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
_NULL_LENGTH = -1


class Traces:
    """The traces of a batch, converted for the database before a transaction holds a lock."""

    def __init__(self, batch: ReceivedBatch) -> None:
        self._rows = batch.header.rows
        # Tuples are made while they are written: thousands at once would trigger the garbage collector.
        self._data: Any = (
            copy_data(_binary(batch)) if connection.vendor == "postgresql" else zip(*_values(batch), strict=True)
        )

    def write(self) -> None:
        """Inserts the traces in the caller's transaction. May be called once."""
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
        """(rows of a statement, the parameters of each statement of that many rows)."""
        if connection.vendor != "sqlite":  # PyMySQL joins the rows of an executemany itself
            yield 1, self._data
            return
        values = chain.from_iterable(self._data)
        full, rest = divmod(self._rows, SQLITE_ROWS)
        yield SQLITE_ROWS, _parts(values, SQLITE_ROWS * len(FIELDS), full)
        if rest:
            yield rest, [tuple(values)]


def _parts(values: Iterator[Any], length: int, number: int) -> Iterator[tuple[Any, ...]]:
    """`number` tuples of the next `length` values each."""
    return (tuple(islice(values, length)) for _ in range(number))


def _values(batch: ReceivedBatch) -> list[Iterable[Any]]:
    """The columns of FIELDS as Python values."""
    header, rows = batch.header, batch.rows
    first = trace_key(header.shard_id, header.first_row)
    intended, *times = batch.times_ns()
    names, addresses = (dict(enumerate(texts)) | {NO_HOST: ""} for texts in (header.hosts, batch.addresses))
    return [
        range(first, first + header.rows),
        repeat(header.experiment_id, header.rows),
        repeat(header.shard_id, header.rows),
        rows.client.tolist(),
        rows.sequence.tolist(),
        intended.tolist(),
        *(_with_none(time, NO_TIME) for time in times),
        rows.outcome.tolist(),
        _with_none(rows.status, 0),
        map(names.__getitem__, rows.host.tolist()),
        rows.size.tolist(),
        rows.routing_version.tolist(),
        rows.reason.tolist(),
        rows.resent.tolist(),
        map(addresses.__getitem__, rows.host.tolist()),
    ]


def _with_none(values: Integers, missing: int) -> list[Any]:
    """The values as a list, with None for `missing`, which most columns have only rarely."""
    gaps = np.flatnonzero(values == missing)
    listed: list[Any] = values.tolist()
    for index in gaps.tolist():
        listed[index] = None
    return listed


def _binary(batch: ReceivedBatch) -> list[Column]:
    """The columns of FIELDS for COPY."""
    header, rows = batch.header, batch.rows
    first = trace_key(header.shard_id, header.first_row)
    intended, *times = batch.times_ns()
    hosts, addresses = ([text.encode() for text in [*texts, ""]] for texts in (header.hosts, batch.addresses))
    host = np.where(rows.host == NO_HOST, len(header.hosts), rows.host)
    same = np.zeros(header.rows, dtype=np.int64)
    return [
        _integers("id", np.arange(first, first + header.rows)),
        Column(same, texts=[str(header.experiment_id).encode()]),
        _integers("shard", same + header.shard_id),
        _integers("client", rows.client),
        _integers("sequence", rows.sequence),
        _integers("intended_ns", intended),
        *(_integers(name, time, NO_TIME) for name, time in zip(FIELDS[6:9], times, strict=True)),
        _integers("outcome", rows.outcome),
        _integers("status", rows.status, 0),
        Column(host, texts=hosts),
        _integers("size", rows.size),
        _integers("routing_version", rows.routing_version),
        _integers("reason", rows.reason),
        _integers("resent", rows.resent),
        Column(host, texts=addresses),
    ]


def _integers(name: str, values: Integers, missing: int | None = None) -> Column:
    kind = str(Trace._meta.get_field(name).db_type(connection))
    return Column(values, _INTEGER_BYTES[kind], missing)


@dataclass(frozen=True)
class Column:
    """Integers of `size` bytes in the database, null where they equal `missing`.

    With `texts`, the values are indexes into these.
    """

    values: NDArray[np.int64]
    size: int = 8
    missing: int | None = None
    texts: list[bytes] | None = None


def copy_data(columns: list[Column]) -> bytes:
    """The input of COPY ... FROM STDIN (FORMAT binary), in which rows of the same layout stand together."""
    layout = np.zeros(len(columns[0].values), dtype=np.int64)
    for column in columns:
        if column.texts is not None:
            layout = layout * len(column.texts) + column.values
        elif column.missing is not None:
            layout = layout * 2 + (column.values == column.missing)
    parts = [_COPY_HEADER]
    for chosen in np.unique(layout):
        parts.append(_rows(columns, np.flatnonzero(layout == chosen)))
    parts.append(_COPY_TRAILER)
    return b"".join(parts)


def _rows(columns: list[Column], rows: NDArray[np.int64]) -> bytes:
    """The rows of these numbers, which have the same layout."""
    fields: list[tuple[str, Any]] = [("fields", ">i2")]
    values: dict[str, Any] = {"fields": len(columns)}
    for number, column in enumerate(columns):
        length, value = f"length{number}", f"value{number}"
        first = int(column.values[rows[0]])
        fields.append((length, ">i4"))
        if column.texts is not None:
            text = column.texts[first]
            values[length] = len(text)
            if text:
                fields.append((value, f"S{len(text)}"))
                values[value] = text
        elif first == column.missing:
            values[length] = _NULL_LENGTH
        else:
            values[length] = column.size
            fields.append((value, f">i{column.size}"))
            values[value] = column.values[rows]
    packed = np.empty(len(rows), dtype=fields)
    for name, content in values.items():
        packed[name] = content
    return packed.tobytes()
