"""Trace batches: columns of a shard's traces, and their form in the spool and on the wire.

A file is: magic, length of the header, header (msgpack of a BatchHeader), then each column of COLUMNS in that order,
little-endian, `rows` values each. On the wire the file is compressed with zstd. Missing times are NO_TIME.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Any, Final

import msgpack
import zstandard

from loadgen.messages import BatchHeader, MessageError, from_wire, to_wire

MAGIC: Final = b"GALB"
NO_TIME: Final = -1
MAX_BATCH_BYTES: Final = 64 << 20

# Name and array typecode; times are ns since the header's epoch_broker_ns.
COLUMNS: Final[dict[str, str]] = {
    "client": "I",
    "sequence": "I",
    "intended_ns": "q",
    "dispatched_ns": "q",
    "sent_ns": "q",
    "done_ns": "q",
    "outcome": "B",
    "status": "H",
    "host": "H",  # index into the header's hosts; NO_HOST when none was chosen
    "size": "I",  # bytes of the response's body as received
    "routing_version": "I",
}
NO_HOST: Final = 0xFFFF
ROW_BYTES: Final = sum(array(code).itemsize for code in COLUMNS.values())

if sys.byteorder != "little":
    raise ImportError("trace batches are little-endian; a big-endian worker is not supported")


class Columns:
    """The traces of one batch while it is being filled; one array per column."""

    __slots__ = tuple(COLUMNS)

    client: array[int]
    sequence: array[int]
    intended_ns: array[int]
    dispatched_ns: array[int]
    sent_ns: array[int]
    done_ns: array[int]
    outcome: array[int]
    status: array[int]
    host: array[int]
    size: array[int]
    routing_version: array[int]

    def __init__(self) -> None:
        for name, code in COLUMNS.items():
            setattr(self, name, array(code))

    def __len__(self) -> int:
        return len(self.client)


def encode(header: BatchHeader, columns: Columns) -> bytes:
    """The bytes of a batch file."""
    packed = msgpack.packb(to_wire(header))
    parts = [MAGIC, struct.pack("<I", len(packed)), packed]
    parts += [getattr(columns, name).tobytes() for name in COLUMNS]
    return b"".join(parts)


def decode(data: bytes) -> tuple[BatchHeader, dict[str, memoryview]]:
    """Header and the raw bytes of each column of a batch file.

    Raises:
        MessageError: when it is no batch, of an unknown version, or cut short.
    """
    plain, position = unpack_header(data)
    header = from_wire(BatchHeader, plain)
    view = memoryview(data)
    if len(data) != position + header.rows * ROW_BYTES:
        raise MessageError(f"batch {header.id}: {len(data)} bytes do not fit {header.rows} rows")
    columns = {}
    for name, code in COLUMNS.items():
        size = header.rows * array(code).itemsize
        columns[name] = view[position : position + size]
        position += size
    return header, columns


def unpack_header(data: bytes) -> tuple[Any, int]:
    """The header of a batch file as plain data, of whatever version and unchecked, and where the columns begin.

    Raises:
        MessageError: when there is none.
    """
    if data[:4] != MAGIC or len(data) < 8:
        raise MessageError("batch: it does not start like a trace batch")
    (length,) = struct.unpack_from("<I", data, 4)
    try:
        return msgpack.unpackb(data[8 : 8 + length]), 8 + length
    except (ValueError, msgpack.UnpackException) as error:
        raise MessageError(f"batch: its header cannot be read: {error}") from error


def compress(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def decompress(data: bytes) -> bytes:
    """Raises MessageError for what is not zstd or unpacks to more than MAX_BATCH_BYTES."""
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= MAX_BATCH_BYTES:
            raise MessageError(f"batch: it unpacks to {size} bytes, at most {MAX_BATCH_BYTES} are accepted")
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise MessageError(f"batch: not zstd: {error}") from error
