"""A received batch as numpy columns, validated: what passes here, every database can store."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from experiments.ingest.origin import MAX_INTEGER, Origin, origin_of
from experiments.models.trace import ROW_BITS
from loadgen.protocol.batch import (
    FIELDS,
    MESSAGE_MAGIC,
    NO_HOST,
    NO_TIME,
    ROW_BYTES,
    Capture,
    decode,
    decode_captures,
    unpack_message,
)
from loadgen.protocol.codec import MessageError
from loadgen.protocol.messages import ENDS, BatchHeader
from loadgen.protocol.outcomes import Outcome

MAX_EPOCH_NS = 1 << 61
MAX_TIME_NS = 1 << 59  # 18 years; an intended time and three durations after an epoch are an int64
MAX_HTTP_STATUS = 999
MAX_HOST_LENGTH = 255

Integers = NDArray[np.int64]

DURATIONS = ("lateness_ns", "connection_wait_ns", "service_time_ns")
_OUTCOMES = np.zeros(256, dtype=bool)
_OUTCOMES[list(Outcome)] = True


@dataclass(frozen=True)
class ReceivedBatch:
    """Header and columns: those of loadgen.protocol.batch.FIELDS, all of int64, so that arithmetic cannot wrap."""

    header: BatchHeader
    origin: Origin
    columns: dict[str, Integers]
    captures: list[Capture] = field(default_factory=list)

    def times_ns(self) -> list[Integers]:
        """Intended, dispatched, sent and done in the broker's clock; NO_TIME where that never happened."""
        time = self.columns["intended_ns"] + self.header.epoch_broker_ns
        times = [time]
        for name in DURATIONS:
            duration = self.columns[name]
            time = time + duration  # where one is missing, all that follow are, too
            times.append(np.where(duration == NO_TIME, NO_TIME, time))
        return times


def read(payload: bytes) -> ReceivedBatch:
    """The batch in a message.

    Raises:
        MessageError: naming what makes it no batch.
    """
    if not isinstance(payload, bytes):
        raise MessageError(f"batch: bytes are needed, not {type(payload).__name__}")
    data = unpack_message(payload)
    header, planes = decode(data, MESSAGE_MAGIC)
    origin = origin_of(vars(header))
    _check_header(header, f"batch {origin.batch}")
    batch = ReceivedBatch(header, origin, _columns(planes), decode_captures(header, data))
    _check_columns(batch)
    return batch


def _columns(planes: bytes) -> dict[str, Integers]:
    """The columns of shuffled records: a field of n bytes has n planes, its lowest byte's first."""
    matrix = np.frombuffer(planes, dtype=np.uint8).reshape(ROW_BYTES, -1)
    columns, first = {}, 0
    for name, code in FIELDS.items():
        last = first + struct.calcsize(f"<{code}")
        values = np.ascontiguousarray(matrix[first:last].T).view(f"<{code}")
        columns[name] = values[:, 0].astype(np.int64)
        first = last
    return columns


def _check_header(header: BatchHeader, where: str) -> None:
    bounds = {
        "rows": (0, MAX_INTEGER),
        "version": (0, MAX_INTEGER),
        "first_row": (0, (1 << ROW_BITS) - header.rows),
        "epoch_broker_ns": (0, MAX_EPOCH_NS),
    }
    for name, (low, high) in bounds.items():
        if not low <= getattr(header, name) <= high:
            raise MessageError(f"{where}: {name} lies outside {low} to {high}: {getattr(header, name)}")
    if header.end not in ("", *ENDS):
        raise MessageError(f"{where}: end: one of {', '.join(ENDS)} is needed, not {header.end!r:.80}")
    for host in header.hosts:
        if not isinstance(host, str) or len(host) > MAX_HOST_LENGTH or "\0" in host:
            raise MessageError(
                f"{where}: hosts: texts of at most {MAX_HOST_LENGTH} characters are needed, not {host!r:.300}"
            )
    if len(set(header.hosts)) != len(header.hosts):
        raise MessageError(f"{where}: hosts: each is needed once")


def _check_columns(batch: ReceivedBatch) -> None:
    columns, hosts = batch.columns, len(batch.header.hosts)
    if not batch.header.rows:
        return
    wrong = {
        "outcome": ~_OUTCOMES[columns["outcome"]],
        "client": columns["client"] > MAX_INTEGER,
        "routing_version": columns["routing_version"] > MAX_INTEGER,
        "status": columns["status"] > MAX_HTTP_STATUS,
        "host": (columns["host"] >= hosts) & (columns["host"] != NO_HOST),
        "intended_ns": (columns["intended_ns"] < 0) | (columns["intended_ns"] > MAX_TIME_NS),
        **{name: (columns[name] < NO_TIME) | (columns[name] > MAX_TIME_NS) for name in DURATIONS},
    }
    for name, rows in wrong.items():
        if rows.any():
            row = int(rows.argmax())
            raise MessageError(f"batch {batch.header.id}: row {row}: {name} cannot be {int(columns[name][row])}")
    for earlier, later in pairwise(DURATIONS):
        gaps = (columns[earlier] == NO_TIME) & (columns[later] != NO_TIME)
        if gaps.any():
            raise MessageError(f"batch {batch.header.id}: row {int(gaps.argmax())}: {later} without {earlier}")
