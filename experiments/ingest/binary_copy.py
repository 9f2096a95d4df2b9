"""Rows in the binary format of PostgreSQL's COPY, made from whole columns.

The format (PostgreSQL's documentation of COPY, "Binary Format"): a header; for each row the number of its fields, and
for each field its length and its value, big-endian, or the length -1 for null; a trailer. Rows with the same nulls and
the same text have the same layout, so each such set of rows is one structured array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = -1


@dataclass(frozen=True)
class Column:
    """Integers of `size` bytes each in the database, `missing` ones null.

    With `texts`, the values are indexes into these instead.
    """

    values: NDArray[np.int64]
    size: int = 8
    missing: int | None = None
    texts: list[bytes] | None = None


def copy_data(columns: list[Column]) -> bytes:
    """What COPY ... FROM STDIN (FORMAT binary) takes; rows with the same nulls and texts lie together."""
    layout = np.zeros(len(columns[0].values), dtype=np.int64)
    for column in columns:
        if column.texts is not None:
            layout = layout * len(column.texts) + column.values
        elif column.missing is not None:
            layout = layout * 2 + (column.values == column.missing)
    parts = [_HEADER]
    for chosen in np.unique(layout):
        parts.append(_rows(columns, np.flatnonzero(layout == chosen)))
    parts.append(_TRAILER)
    return b"".join(parts)


def _rows(columns: list[Column], rows: NDArray[np.int64]) -> bytes:
    """Rows of one layout."""
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
            values[length] = _NULL
        else:
            values[length] = column.size
            fields.append((value, f">i{column.size}"))
            values[value] = column.values[rows]
    packed = np.empty(len(rows), dtype=fields)
    for name, content in values.items():
        packed[name] = content
    return packed.tobytes()
