"""COPY's binary format, as PostgreSQL's documentation has it; that PostgreSQL takes it is tested with the ingest."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.ingest.writers import Column, copy_data

NULL = -1
TEXTS = ["", "a:1", "größer"]
FORMATS = {2: ">h", 4: ">i", 8: ">q"}

row = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-1, 2**31 - 1),
    st.integers(0, len(TEXTS) - 1),
    st.integers(-1, 2**15 - 1),
)


@settings(deadline=None)
@given(st.lists(row, min_size=1, max_size=30))
def test_copy_data_has_each_row_once_with_nulls_and_texts(rows: list[tuple[int, ...]]) -> None:
    wide, nullable, text, small = (np.array(values, dtype=np.int64) for values in zip(*rows, strict=True))

    data = copy_data(
        [
            Column(wide),
            Column(nullable, 4, missing=-1),
            Column(text, texts=[value.encode() for value in TEXTS]),
            Column(small, 2, missing=-1),
        ]
    )

    expected = [
        [number(8, wide), None if middle == -1 else number(4, middle), TEXTS[index].encode(),
         None if last == -1 else number(2, last)]
        for wide, middle, index, last in rows
    ]  # fmt: skip
    assert sorted(fields_of(data), key=repr) == sorted(expected, key=repr)


def number(size: int, value: int) -> bytes:
    return struct.pack(FORMATS[size], value)


def fields_of(data: bytes) -> list[list[Any]]:
    """The fields of each row of COPY's binary format, None for null."""
    assert data[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    rows, position = [], 19
    while data[position:] != b"\xff\xff":
        (fields,) = struct.unpack_from(">h", data, position)
        position += 2
        row: list[Any] = []
        for _ in range(fields):
            (length,) = struct.unpack_from(">i", data, position)
            position += 4
            row.append(None if length == NULL else data[position : position + length])
            position += max(length, 0)
        rows.append(row)
    return rows
