"""A received batch as numpy columns, validated: what passes here, every database can store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.ingest.origin import MAX_INTEGER, Origin, origin_of
from experiments.models.trace import ROW_BITS
from loadgen.batch import COLUMNS, NO_HOST, NO_TIME, decode, decompress
from loadgen.messages import ENDS, BatchHeader, MessageError, Outcome

MAX_TIME_NS = 1 << 61
MAX_HTTP_STATUS = 999
MAX_HOST_LENGTH = 255

_TIMES = tuple(name for name in COLUMNS if name.endswith("_ns"))
_OUTCOMES = np.array(sorted(Outcome))


@dataclass(frozen=True)
class ReceivedBatch:
    """Header and columns; the times are ns since the header's epoch, NO_TIME where there is none."""

    header: BatchHeader
    origin: Origin
    columns: dict[str, NDArray[np.int64]]

    def absolute_ns(self, name: str) -> NDArray[np.int64]:
        """A column of times in the broker's clock; NO_TIME stays."""
        relative = self.columns[name]
        return np.where(relative == NO_TIME, NO_TIME, relative + self.header.epoch_broker_ns)


def read(payload: bytes) -> ReceivedBatch:
    """The batch in a message.

    Raises:
        MessageError: naming what makes it no batch.
    """
    if not isinstance(payload, bytes):
        raise MessageError(f"batch: bytes are needed, not {type(payload).__name__}")
    header, raw = decode(decompress(payload))
    origin = origin_of(vars(header))
    _check_header(header, f"batch {origin.batch}")
    # frombuffer takes array's typecodes; int64 throughout makes the arithmetic safe from unsigned wrap-around.
    columns = {name: np.frombuffer(raw[name], dtype=code).astype(np.int64) for name, code in COLUMNS.items()}
    batch = ReceivedBatch(header, origin, columns)
    _check_columns(batch)
    return batch


def _check_header(header: BatchHeader, where: str) -> None:
    bounds = {
        "rows": (0, MAX_INTEGER),
        "first_row": (0, (1 << ROW_BITS) - header.rows),
        "epoch_broker_ns": (0, MAX_TIME_NS),
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
        "outcome": ~np.isin(columns["outcome"], _OUTCOMES),
        "client": columns["client"] > MAX_INTEGER,
        "routing_version": columns["routing_version"] > MAX_INTEGER,
        "status": columns["status"] > MAX_HTTP_STATUS,
        "host": (columns["host"] >= hosts) & (columns["host"] != NO_HOST),
        **{name: (columns[name] < NO_TIME) | (columns[name] > MAX_TIME_NS) for name in _TIMES},
        "intended_ns": (columns["intended_ns"] < 0) | (columns["intended_ns"] > MAX_TIME_NS),
    }
    for name, rows in wrong.items():
        if rows.any():
            row = int(rows.argmax())
            raise MessageError(f"batch {batch.header.id}: row {row}: {name} cannot be {int(columns[name][row])}")
