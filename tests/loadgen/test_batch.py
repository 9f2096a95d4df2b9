"""A trace batch comes back as it was, and what is no whole batch is refused."""

from __future__ import annotations

import dataclasses
import struct
from array import array
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.batch import COLUMNS, MAGIC, MAX_BATCH_BYTES, ROW_BYTES, Columns, compress, decode, decompress, encode
from loadgen.messages import BatchHeader, Counters, Gauges, MessageError, to_wire

LIMITS = {"B": (0, 2**8 - 1), "H": (0, 2**16 - 1), "I": (0, 2**32 - 1), "q": (-(2**63), 2**63 - 1)}
row = st.tuples(*(st.integers(*LIMITS[code]) for code in COLUMNS.values()))


def header(rows: int, **changes: Any) -> BatchHeader:
    whole = BatchHeader(
        shard_id=7,
        attempt=2,
        group_id="g",
        experiment_id="202611220000-abcd",
        worker="pi",
        number=3,
        first_row=100,
        rows=rows,
        epoch_broker_ns=1_700_000_000_000_000_000,
        hosts=["a:1", "[::1]:2"],
        counters=Counters(planned=5, rows=4, sent=3, completed=2, errors=1, cut=1, bytes_received=2**40),
        gauges=Gauges(in_flight=1, clock_offset_ns=-5),
        end="finished",
        reason="stopped",
    )
    return dataclasses.replace(whole, **changes)


def columns_of(rows: list[tuple[int, ...]]) -> Columns:
    columns = Columns()
    for values in rows:
        for name, value in zip(COLUMNS, values, strict=True):
            getattr(columns, name).append(value)
    return columns


@settings(deadline=None)
@given(st.lists(row, max_size=30))
def test_a_batch_comes_back_as_it_was(rows: list[tuple[int, ...]]) -> None:
    columns = columns_of(rows)
    assert len(columns) == len(rows)
    data = encode(header(len(rows)), columns)
    found_header, found = decode(decompress(compress(data)))
    assert found_header == header(len(rows))
    assert list(found) == list(COLUMNS)
    for name, code in COLUMNS.items():
        assert array(code, found[name].tobytes()) == getattr(columns, name)


def test_a_row_has_the_size_that_is_stated() -> None:
    one, none = (len(encode(header(rows), columns_of([(0,) * len(COLUMNS)] * rows))) for rows in (1, 0))
    assert one - none == ROW_BYTES


@settings(deadline=None)
@given(st.data())
def test_a_batch_cut_short_at_any_byte_is_refused(data: st.DataObject) -> None:
    whole = encode(header(2), columns_of([(1,) * len(COLUMNS)] * 2))
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MessageError):
        decode(whole[:end])


def test_a_batch_with_something_behind_it_is_refused() -> None:
    with pytest.raises(MessageError, match=r"batch g\.7\.2\.3: \d+ bytes do not fit 0 rows"):
        decode(encode(header(0), Columns()) + b"x")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_foreign_data_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode(data)
    with pytest.raises(MessageError):
        decode(MAGIC + data)
    with pytest.raises(MessageError):
        decompress(data)


def test_negative_rows_are_refused() -> None:
    with pytest.raises(MessageError):
        decode(encode(header(-1), Columns()))


def test_another_version_is_refused() -> None:
    packed = msgpack.packb({**to_wire(header(0)), "v": 2})
    with pytest.raises(MessageError, match="version 2 is unknown"):
        decode(MAGIC + struct.pack("<I", len(packed)) + packed)


def test_what_would_unpack_to_too_much_is_refused() -> None:
    bomb = compress(bytes(MAX_BATCH_BYTES + 1))
    assert len(bomb) < 100_000
    with pytest.raises(MessageError, match="at most"):
        decompress(bomb)


def test_a_damaged_frame_is_refused() -> None:
    data = bytearray(compress(encode(header(2), columns_of([(1,) * len(COLUMNS)] * 2))))
    with pytest.raises(MessageError, match="zstd"):
        decompress(bytes(data[:-3]))
