"""A trace batch comes back as it was, from its file and from its message, and what is no whole batch is refused."""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import replace
from typing import Any

import msgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.protocol.codec import MessageError, to_wire
from loadgen.protocol.messages import BatchHeader, Counters, Gauges
from loadgen.protocol.trace_batch import (
    COLUMNS,
    MAGIC,
    MAX_BATCH_BYTES,
    MESSAGE_MAGIC,
    RECORD,
    ROW_BYTES,
    Capture,
    decode,
    decode_captures,
    encode_captures,
    encode_header,
    layout_of,
    to_message,
    unpack_header,
    unpack_message,
)
from tests.support.records import unshuffled

LIMITS = {"B": (0, 2**8 - 1), "H": (0, 2**16 - 1), "I": (0, 2**32 - 1), "q": (-(2**63), 2**63 - 1)}
row = st.tuples(*(st.integers(*LIMITS[code]) for code in COLUMNS.values()))
TWO_ROWS = RECORD.pack(*[1] * len(COLUMNS)) * 2


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
        columns=COLUMNS,
        counters=Counters(planned=5, rows=4, sent=3, completed=2, errors=1, cut=1, bytes_received=2**40),
        gauges=Gauges(in_flight=1, clock_offset_ns=-5),
        end="finished",
        reason="stopped",
    )
    return dataclasses.replace(whole, **changes)


@settings(deadline=None)
@given(st.lists(row, max_size=30))
def test_a_batch_comes_back_as_it_was(rows: list[tuple[int, ...]]) -> None:
    file = encode_header(header(len(rows))) + b"".join(RECORD.pack(*values) for values in rows)
    found_header, records = decode(file)
    assert found_header == header(len(rows))
    assert list(RECORD.iter_unpack(records)) == rows

    sent_header, planes = decode(unpack_message(to_message(file)), MESSAGE_MAGIC)
    assert sent_header == found_header
    assert unshuffled(planes) == records


def test_a_column_is_found_by_its_name_wherever_it_is() -> None:
    columns = {"new": "H", **dict(reversed(COLUMNS.items()))}
    layout = layout_of(header(0, columns=columns))
    records = b"".join(layout.record.pack(*range(number, number + len(columns))) for number in (0, 100))
    found, planes = decode(
        unpack_message(to_message(encode_header(header(2, columns=columns)) + records)), MESSAGE_MAGIC
    )
    assert unshuffled(planes, layout.row_bytes) == records
    assert layout_of(found).offsets == {
        "new": 0, "resent": 2, "reason": 3, "routing_version": 4, "size": 8, "host": 16, "status": 18, "outcome": 20,
        "service_time_ns": 21, "connection_wait_ns": 29, "lateness_ns": 37, "intended_ns": 45, "sequence": 53,
        "client": 57,
    }  # fmt: skip


def test_a_header_without_columns_has_those_of_before_they_were_named() -> None:
    layout = layout_of(header(0, columns={}))
    first = {name: code for name, code in COLUMNS.items() if name not in ("reason", "resent")}
    assert (layout.columns, layout.row_bytes) == ({**first, "size": "I"}, 53)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({**COLUMNS, "new": "d"}, "must be up to 64 of the types"),
        ({**COLUMNS, "new": "Q"}, "must be up to 64 of the types"),
        ({**COLUMNS, "new": ""}, "must be up to 64 of the types"),
        ({**COLUMNS, **{f"c{number}": "B" for number in range(64)}}, "must be up to 64 of the types"),
        ({name: code for name, code in COLUMNS.items() if name != "host"}, "host is missing"),
    ],
    ids=["float", "wider than int64", "none", "too many", "missing"],
)
def test_columns_that_cannot_be_read_are_refused(columns: dict[str, str], message: str) -> None:
    with pytest.raises(MessageError, match=rf"batch g\.7\.2\.3: columns: {message}"):
        decode(encode_header(header(0, columns=columns)))


def test_rows_that_differ_little_take_few_bytes_on_the_wire() -> None:
    rows = 2500
    records = b"".join(
        RECORD.pack(number % 50, number // 50, number * 100_000, 30_000, 5_000, 80_000, 0, 200, 0, 612, 1, 0, 0)
        for number in range(rows)
    )
    assert len(to_message(encode_header(header(rows)) + records)) < 4 * rows


@settings(deadline=None)
@given(st.data())
def test_a_batch_cut_short_at_any_byte_is_refused(data: st.DataObject) -> None:
    whole = encode_header(header(2)) + TWO_ROWS
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MessageError):
        decode(whole[:end])
    with pytest.raises(MessageError):
        to_message(whole[:end])


def test_a_batch_with_something_behind_it_is_refused() -> None:
    with pytest.raises(MessageError, match=r"batch g\.7\.2\.3: \d+ bytes do not fit 0 rows"):
        decode(encode_header(header(0)) + b"x")


def test_file_and_message_are_not_confused() -> None:
    file = encode_header(header(2)) + TWO_ROWS
    with pytest.raises(MessageError, match="does not begin with the mark"):
        decode(file, MESSAGE_MAGIC)
    with pytest.raises(MessageError, match="does not begin with the mark"):
        decode(unpack_message(to_message(file)))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_foreign_data_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode(data)
    with pytest.raises(MessageError):
        decode(MAGIC + data)
    with pytest.raises(MessageError):
        unpack_message(data)


def test_negative_rows_are_refused() -> None:
    with pytest.raises(MessageError):
        decode(encode_header(header(-1)))


def test_unknown_version_with_readable_header_is_refused() -> None:
    packed = msgpack.packb({**to_wire(header(0)), "v": 2})
    data = MAGIC + struct.pack("<I", len(packed)) + packed
    with pytest.raises(MessageError, match="version 2 is unknown"):
        decode(data)
    assert unpack_header(data, MAGIC)[0]["worker"] == "pi"


def test_what_would_unpack_to_too_much_is_refused() -> None:
    bomb = zstandard.compress(bytes(MAX_BATCH_BYTES + 1))
    assert len(bomb) < 100_000
    with pytest.raises(MessageError, match="at most"):
        unpack_message(bomb)


def test_a_damaged_frame_is_refused() -> None:
    message = to_message(encode_header(header(2)) + TWO_ROWS)
    with pytest.raises(MessageError, match="zstd"):
        unpack_message(message[:-3])


CAPTURED = [Capture(0, b"GET / HTTP/1.1\r\n\r\n", b"\xff\x00"), Capture(1, b"", b"")]


def with_captures(section: bytes, rows: int = 2) -> bytes:
    return encode_header(replace(header(rows), captures_bytes=len(section))) + TWO_ROWS + section


def test_captures_cross_the_wire_behind_the_records() -> None:
    file = with_captures(encode_captures(CAPTURED))
    found, records = decode(file)
    assert (records, decode_captures(found, file)) == (TWO_ROWS, CAPTURED)
    sent = unpack_message(to_message(file))
    found, planes = decode(sent, MESSAGE_MAGIC)
    assert (unshuffled(planes), decode_captures(found, sent)) == (TWO_ROWS, CAPTURED)


def test_a_batch_without_captures_has_no_byte_for_them() -> None:
    assert encode_captures([]) == b""
    file = with_captures(b"")
    assert decode_captures(decode(file)[0], file) == []


@pytest.mark.parametrize(
    "captures",
    [[[2, b"", b""]], [[-1, b"", b""]], [["0", b"", b""]], [[0, "text", b""]], [[0, b"", None]], [[0, b""]], [7], 7,
     [[0, b"", b""], [0, b"", b""]]],
)  # fmt: skip
def test_what_are_no_captures_of_its_rows_is_refused(captures: object) -> None:
    file = with_captures(msgpack.packb(captures))
    with pytest.raises(MessageError, match=r"batch g\.7\.2\.3: (its )?captures"):
        decode_captures(decode(file)[0], file)


def test_a_damaged_section_of_captures_is_refused() -> None:
    file = with_captures(b"\xc1")
    with pytest.raises(MessageError, match="its captures cannot be read"):
        decode_captures(decode(file)[0], file)


def test_a_negative_length_of_captures_is_refused() -> None:
    with pytest.raises(MessageError, match="do not fit"):
        decode(encode_header(replace(header(3), captures_bytes=-ROW_BYTES)) + TWO_ROWS)
