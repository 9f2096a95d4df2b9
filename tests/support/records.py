"""Records of trace batches with absolute times instead of durations: to write and to read them in tests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from loadgen.protocol.trace_batch import NO_HOST, NO_TIME, RECORD, ROW_BYTES


@dataclass(frozen=True)
class Row:
    """A row; its times are ns since the batch's epoch."""

    client: int
    sequence: int
    intended_ns: int
    dispatched_ns: int = NO_TIME
    sent_ns: int = NO_TIME
    done_ns: int = NO_TIME
    outcome: int = 0
    status: int = 0
    host: int = NO_HOST
    size: int = 0
    routing_version: int = 0
    reason: int = 0
    resent: int = 0


def pack(row: Row) -> bytes:
    times = row.intended_ns, row.dispatched_ns, row.sent_ns, row.done_ns
    durations = [NO_TIME if later == NO_TIME else later - earlier for earlier, later in pairwise(times)]
    return RECORD.pack(
        row.client,
        row.sequence,
        row.intended_ns,
        *durations,
        row.outcome,
        row.status,
        row.host,
        row.size,
        row.routing_version,
        row.reason,
        row.resent,
    )


def unpack(records: bytes | memoryview) -> list[Row]:
    rows = []
    for client, sequence, intended_ns, *rest in RECORD.iter_unpack(records):
        durations, facts = rest[:3], rest[3:]
        times = [intended_ns]
        for duration in durations:
            times.append(NO_TIME if duration == NO_TIME else times[-1] + duration)
        rows.append(Row(client, sequence, *times, *facts))
    return rows


def unshuffled(planes: bytes, row_bytes: int = ROW_BYTES) -> bytes:
    """Records from the planes of a message, byte by byte."""
    rows = len(planes) // row_bytes
    return bytes(planes[byte * rows + row] for row in range(rows) for byte in range(row_bytes))
