"""Trace batches: a shard's traces, and their forms in the spool and on the wire.

A file is: MAGIC, length of the header, header (msgpack of a BatchHeader), then the records, then the captures, as many
bytes as the header says: a msgpack list of [row in this batch, request, response]. A record is a row's values,
little-endian and without gaps, in the order of the columns that the header names. A reader takes the columns that it
knows by their names: a new one is no new format.

A message is a zstd frame of the same, but begins with MESSAGE_MAGIC, and its records are shuffled: the first byte of
each record, then the second byte of each, and so on (the shuffle filter of Blosc and HDF5). The high bytes of numbers
are nearly all alike and lie side by side then, and every such plane is a zstd block with a table of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final, NamedTuple

import msgpack
import zstandard

from loadgen.protocol.codec import MessageError, from_wire, to_wire
from loadgen.protocol.messages import BatchHeader

MAGIC: Final = b"GALR"
MESSAGE_MAGIC: Final = b"GALS"
NO_TIME: Final = -1
MAX_BATCH_BYTES: Final = 64 << 20
WINDOW: Final = 8  # batches of a shard that an agent has sent without an answer, at most

# Name and typecode of struct of each column that is written. `intended_ns` counts from the header's epoch_broker_ns.
# Each duration counts from the time before it: to the dispatch, to the last byte sent, to the complete response. It is
# NO_TIME where that never happened; then the later ones are NO_TIME, too.
COLUMNS: Final[dict[str, str]] = {
    "client": "I",
    "sequence": "I",
    "intended_ns": "q",
    "lateness_ns": "q",
    "connection_wait_ns": "q",
    "service_time_ns": "q",
    "outcome": "B",
    "status": "H",
    "host": "H",  # index into the header's hosts and addresses; NO_HOST when none was chosen
    "size": "q",  # bytes of the response's body as received
    "routing_version": "I",
    "reason": "B",  # a MalformedReason
    "resent": "B",  # 1 if the request was sent a second time
}
# Those of a batch whose header names none: it was written before headers named them. Every batch has them.
_UNNAMED: Final[dict[str, str]] = {
    **{name: code for name, code in COLUMNS.items() if name not in ("reason", "resent")},
    "size": "I",
}
NO_HOST: Final = 0xFFFF

_TYPECODES: Final = frozenset("BHIbhiq")  # of integers that an int64 can hold
_MAX_COLUMNS: Final = 64


def endpoint_of(host: str, address: str) -> str:
    """A host, with the address behind its name if that is known, as one text for the recorder."""
    return f"{host} {address}" if address else host


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """Returns the host, and the address or ""."""
    host, _, address = endpoint.partition(" ")
    return host, address


class Layout:
    """The columns of a batch's records.

    Attributes:
        columns: typecode by name, in the records' order.
        offsets: where each column begins in a record, in bytes.
        record: unpacks a record.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.columns = dict(columns)
        self.record = struct.Struct("<" + "".join(columns.values()))
        ends = accumulate(struct.calcsize(f"<{code}") for code in columns.values())
        self.offsets = dict(zip(columns, (0, *ends), strict=False))

    @property
    def row_bytes(self) -> int:
        return self.record.size


LAYOUT: Final = Layout(COLUMNS)
ROW_BYTES: Final = LAYOUT.row_bytes
RECORD: Final = LAYOUT.record


def layout_of(header: BatchHeader) -> Layout:
    """The layout of a batch's records.

    Raises:
        MessageError: a column's name or type is unknown to all versions, or one that every batch has is missing.
    """
    columns = header.columns or _UNNAMED
    if columns == COLUMNS:
        return LAYOUT
    if len(columns) > _MAX_COLUMNS or not _TYPECODES.issuperset(columns.values()):
        known = " ".join(sorted(_TYPECODES))
        raise MessageError(f"batch {header.id}: columns: must be up to {_MAX_COLUMNS} of the types {known}")
    if missing := _UNNAMED.keys() - columns.keys():
        raise MessageError(f"batch {header.id}: columns: {min(missing)} is missing")
    return Layout(columns)


MAX_CAPTURES_BYTES: Final = 256 << 10  # of a batch
CAPTURE_OVERHEAD_BYTES: Final = 16  # at most, of one


class Capture(NamedTuple):
    """A request and its response as they went over the wire, cut off at the workload's limit."""

    row: int  # in its batch
    request: bytes
    response: bytes


# Of all levels up to 9, the least CPU time and within 2 % of the fewest bytes: the rest is noise of clocks.
_ZSTD_LEVEL = 1


def encode_header(header: BatchHeader) -> bytes:
    """The beginning of a batch file; the records follow, with the columns that the header names."""
    packed: bytes = msgpack.packb(to_wire(header))
    return MAGIC + struct.pack("<I", len(packed)) + packed


def decode(data: bytes, magic: bytes = MAGIC) -> tuple[BatchHeader, bytes]:
    """Header and records of a batch file; with MESSAGE_MAGIC of an unpacked message, whose records are shuffled.

    Raises:
        MessageError: it is not a batch, has an unknown version, or is truncated.
    """
    plain, position = unpack_header(data, magic)
    header = from_wire(BatchHeader, plain)
    end = position + header.rows * layout_of(header).row_bytes
    if header.captures_bytes < 0 or len(data) != end + header.captures_bytes:
        raise MessageError(f"batch {header.id}: {len(data)} bytes do not fit {header.rows} rows")
    return header, data[position:end]


def encode_captures(captures: list[Capture]) -> bytes:
    """The section behind the records; empty for no captures."""
    packed: bytes = msgpack.packb(captures) if captures else b""
    return packed


def decode_captures(header: BatchHeader, data: bytes) -> list[Capture]:
    """The captures of a batch that `decode` has accepted.

    Raises:
        MessageError: they do not belong to rows of this batch.
    """
    if not header.captures_bytes:
        return []
    try:
        captures = [Capture(*capture) for capture in msgpack.unpackb(data[-header.captures_bytes :])]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MessageError(f"batch {header.id}: its captures cannot be read: {error}") from error
    rows = {capture.row for capture in captures if isinstance(capture.row, int) and 0 <= capture.row < header.rows}
    if len(rows) != len(captures) or not all(isinstance(part, bytes) for capture in captures for part in capture[1:]):
        raise MessageError(f"batch {header.id}: captures: must be bytes of different rows of the batch")
    return captures


def unpack_header(data: bytes, magic: bytes) -> tuple[Any, int]:
    """Returns the header as unchecked plain data of any version, and the position at which the records begin.

    Raises:
        MessageError: there is no header.
    """
    if data[:4] != magic or len(data) < 8:
        raise MessageError("batch: does not begin with the mark of a trace batch")
    (length,) = struct.unpack_from("<I", data, 4)
    try:
        return msgpack.unpackb(data[8 : 8 + length]), 8 + length
    except (ValueError, msgpack.UnpackException) as error:
        raise MessageError(f"batch: its header cannot be read: {error}") from error


def to_message(file: bytes) -> bytes:
    """A batch file as it crosses the wire.

    Raises:
        MessageError: as `decode`.
    """
    header, records = decode(file)
    end = len(file) - header.captures_bytes
    head = MESSAGE_MAGIC + file[len(MAGIC) : end - len(records)]
    frame = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj(size=len(file))
    parts = [frame.compress(head), frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    row_bytes = layout_of(header).row_bytes
    for byte in range(row_bytes if records else 0):
        parts.append(frame.compress(records[byte::row_bytes]))
        parts.append(frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    parts.append(frame.compress(file[end:]))
    parts.append(frame.flush())
    return b"".join(parts)


def unpack_message(message: bytes) -> bytes:
    """The content of a message's frame, for `decode` and `unpack_header` with MESSAGE_MAGIC.

    Raises:
        MessageError: it is not zstd, or unpacks to more than MAX_BATCH_BYTES.
    """
    try:
        size = zstandard.frame_content_size(message)
        if not 0 <= size <= MAX_BATCH_BYTES:
            raise MessageError(f"batch: must unpack to at most {MAX_BATCH_BYTES} bytes, got {size}")
        return zstandard.ZstdDecompressor().decompress(message)
    except zstandard.ZstdError as error:
        raise MessageError(f"batch: is not valid zstd: {error}") from error
