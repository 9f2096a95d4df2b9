"""ReceivedBatch: a trace batch decoded into numpy columns, and validated so that every database can store it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.models.trace import ROW_BITS
from loadgen.protocol.codec import MessageError
from loadgen.protocol.enums import ENDS
from loadgen.protocol.messages import BatchHeader, batch_id, check_group_id
from loadgen.protocol.outcomes import MalformedReason, Outcome
from loadgen.protocol.settings import NAME_PATTERN
from loadgen.protocol.trace_batch import (
    MESSAGE_MAGIC,
    NO_HOST,
    NO_TIME,
    Capture,
    Layout,
    decode,
    decode_captures,
    layout_of,
    unpack_header,
    unpack_message,
)

MAX_INTEGER = (1 << 31) - 1  # of a PositiveIntegerField
MAX_EPOCH_NS = 1 << 61
MAX_TIME_NS = 1 << 59  # 18 years: an intended time and three durations after an epoch fit into an int64
MAX_HTTP_STATUS = 999
MAX_ADDRESS_LENGTH = 64
MAX_HOST_LENGTH = 255

Integers = NDArray[np.int64]

DURATIONS = ("lateness_ns", "connection_wait_ns", "service_time_ns")
_ORIGIN_BOUNDS = {
    "shard_id": (1, (1 << (63 - ROW_BITS)) - 1),
    "attempt": (1, MAX_INTEGER),
    "number": (0, MAX_INTEGER - 1),
}
_OUTCOMES = np.zeros(256, dtype=bool)
_OUTCOMES[list(Outcome)] = True
_HIGHEST_REASON = max(MalformedReason)


@dataclass(frozen=True)
class Origin:
    """The worker that waits for the answer to a batch, and the batch's identity."""

    worker: str
    group_id: str
    shard_id: int
    attempt: int
    number: int

    @property
    def batch(self) -> str:
        return batch_id(self.group_id, self.shard_id, self.attempt, self.number)


@dataclass(frozen=True)
class Rows:
    """The rows of a batch as columns (trace_batch.COLUMNS), all of int64, so that sums cannot overflow."""

    client: Integers
    sequence: Integers
    intended_ns: Integers
    lateness_ns: Integers
    connection_wait_ns: Integers
    service_time_ns: Integers
    outcome: Integers
    status: Integers
    host: Integers
    size: Integers
    routing_version: Integers
    reason: Integers
    resent: Integers

    def select(self, rows: Integers | slice) -> Rows:
        """The rows of these numbers."""
        return Rows(**{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True)
class ReceivedBatch:
    header: BatchHeader
    origin: Origin
    rows: Rows
    captures: list[Capture] = field(default_factory=list)

    @property
    def addresses(self) -> list[str]:
        """The address behind each of the header's hosts, "" where it is not known."""
        return self.header.addresses or [""] * len(self.header.hosts)

    def times_ns(self) -> list[Integers]:
        """Intended, dispatched, sent and done times in the broker's clock; NO_TIME where that did not happen."""
        time = self.rows.intended_ns + self.header.epoch_broker_ns
        times = [time]
        for duration in (self.rows.lateness_ns, self.rows.connection_wait_ns, self.rows.service_time_ns):
            time = time + duration  # if a duration is missing, all later ones are, too
            times.append(np.where(duration == NO_TIME, NO_TIME, time))
        return times


def read(payload: bytes) -> ReceivedBatch:
    """Decodes and validates a message.

    Raises:
        MessageError: with the reason why it is not a valid batch.
    """
    if not isinstance(payload, bytes):
        raise MessageError(f"batch: must be bytes, got {type(payload).__name__}")
    data = unpack_message(payload)
    header, planes = decode(data, MESSAGE_MAGIC)
    origin = _origin(vars(header))
    _check_header(header, f"batch {origin.batch}")
    batch = ReceivedBatch(header, origin, _rows(planes, layout_of(header)), decode_captures(header, data))
    _check_rows(batch)
    return batch


def find_origin(payload: bytes) -> Origin | None:
    """The origin of a message that cannot be read as a batch; None if its header has none."""
    try:
        header, _ = unpack_header(unpack_message(payload), MESSAGE_MAGIC)
        return _origin(header) if isinstance(header, dict) else None
    except MessageError:
        return None


def _origin(header: Mapping[str, Any]) -> Origin:
    """The origin in a header's fields, which may be those of another protocol version.

    Raises:
        MessageError: with the name of a field that is missing or out of bounds.
    """
    worker, group_id = header.get("worker"), header.get("group_id")
    if not isinstance(worker, str) or not NAME_PATTERN.fullmatch(worker):
        raise MessageError(f"batch: worker: must be the name of a worker, got {worker!r:.80}")
    if not isinstance(group_id, str):
        raise MessageError(f"batch: group_id: must be a string, got {group_id!r:.80}")
    check_group_id(group_id)
    numbers = {}
    for name, (low, high) in _ORIGIN_BOUNDS.items():
        value = header.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise MessageError(f"batch: {name} must be from {low} to {high}, got {value!r:.80}")
        numbers[name] = value
    return Origin(worker, group_id, **numbers)


def _rows(planes: bytes, layout: Layout) -> Rows:
    """The known columns of shuffled records: one of n bytes has n planes, the one of its lowest bytes first."""
    matrix = np.frombuffer(planes, dtype=np.uint8).reshape(layout.row_bytes, -1)
    columns = {}
    for name in (column.name for column in fields(Rows)):
        if name not in layout.columns:  # of an older worker
            columns[name] = np.zeros(matrix.shape[1], dtype=np.int64)
            continue
        first, code = layout.offsets[name], f"<{layout.columns[name]}"
        values = np.ascontiguousarray(matrix[first : first + struct.calcsize(code)].T).view(code)
        columns[name] = values[:, 0].astype(np.int64)
    return Rows(**columns)


def _check_header(header: BatchHeader, where: str) -> None:
    bounds = {
        "rows": (0, MAX_INTEGER),
        "version": (0, MAX_INTEGER),
        "first_row": (0, (1 << ROW_BITS) - header.rows),
        "epoch_broker_ns": (0, MAX_EPOCH_NS),
    }
    for name, (low, high) in bounds.items():
        if not low <= getattr(header, name) <= high:
            raise MessageError(f"{where}: {name} must be from {low} to {high}, got {getattr(header, name)}")
    if header.end not in ("", *ENDS):
        raise MessageError(f"{where}: end: must be one of {', '.join(ENDS)}, got {header.end!r:.80}")
    for host in header.hosts:
        if not isinstance(host, str) or len(host) > MAX_HOST_LENGTH or "\0" in host:
            raise MessageError(
                f"{where}: hosts: must be strings of at most {MAX_HOST_LENGTH} characters, got {host!r:.300}"
            )
    for address in header.addresses:
        if not isinstance(address, str) or len(address) > MAX_ADDRESS_LENGTH or "\0" in address:
            raise MessageError(
                f"{where}: addresses: must be strings of at most {MAX_ADDRESS_LENGTH} characters, got {address!r:.300}"
            )
    if len(header.addresses) not in (0, len(header.hosts)):
        raise MessageError(f"{where}: addresses: must be as many as hosts, {len(header.hosts)}")
    if len(set(zip(header.hosts, header.addresses or header.hosts, strict=True))) != len(header.hosts):
        raise MessageError(f"{where}: hosts: must be different, or have different addresses")


def _check_rows(batch: ReceivedBatch) -> None:
    rows, hosts = batch.rows, len(batch.header.hosts)
    if not batch.header.rows:
        return
    durations = {name: getattr(rows, name) for name in DURATIONS}
    wrong = {
        "outcome": ~_OUTCOMES[rows.outcome],
        "client": rows.client > MAX_INTEGER,
        "routing_version": rows.routing_version > MAX_INTEGER,
        "size": rows.size < 0,
        "reason": (rows.reason < 0) | (rows.reason > _HIGHEST_REASON),
        "resent": (rows.resent < 0) | (rows.resent > 1),
        "status": rows.status > MAX_HTTP_STATUS,
        "host": (rows.host >= hosts) & (rows.host != NO_HOST),
        "intended_ns": (rows.intended_ns < 0) | (rows.intended_ns > MAX_TIME_NS),
        **{name: (duration < NO_TIME) | (duration > MAX_TIME_NS) for name, duration in durations.items()},
    }
    for name, is_wrong in wrong.items():
        if is_wrong.any():
            row = int(is_wrong.argmax())
            value = int(getattr(rows, name)[row])
            raise MessageError(f"batch {batch.header.id}: row {row}: {name} must not be {value}")
    for earlier, later in pairwise(DURATIONS):
        gaps = (durations[earlier] == NO_TIME) & (durations[later] != NO_TIME)
        if gaps.any():
            raise MessageError(f"batch {batch.header.id}: row {int(gaps.argmax())}: {later} without {earlier}")
