"""The innermost functions; written a second time in primitives.pyx, for a compiled engine (loadgen/compiled)."""

from __future__ import annotations

import os
import select
from typing import Final

from loadgen.protocol.trace_batch import RECORD, ROW_BYTES

BROKEN: Final = -2  # of `write_at_once`; -1 means an exception in C
_LEAST_ROWS = 1024

_pack_into = RECORD.pack_into


def numbered(head: bytes, client: int, sequence: int, tail: bytes) -> bytes:
    """Returns a request with the id `client-sequence`, of 10 digits at least each; neither may be negative."""
    return b"%b%010d-%010d%b" % (head, client, sequence, tail)


def write_at_once(descriptor: int, data: bytes) -> int:
    """Writes to a non-blocking socket; returns how many bytes it accepted.

    Returns 0 if it is not ready, and BROKEN if it accepts nothing any more, as its other end was closed.
    """
    try:
        return os.write(descriptor, data)
    except (BrokenPipeError, ConnectionResetError):
        return BROKEN
    except OSError:
        return 0


def has_input(descriptor: int) -> bool:
    """Returns whether a socket has data, its end, or an error to be read."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


class Rows:
    """The packed rows of the next batch (loadgen/protocol/trace_batch.py)."""

    __slots__ = ("_buffer", "_end", "_position")

    _buffer: bytearray
    _end: int
    _position: int

    def __init__(self) -> None:
        self._begin(_LEAST_ROWS)

    def __len__(self) -> int:
        return self._position // ROW_BYTES

    def put(
        self,
        client: int,
        sequence: int,
        intended_ns: int,
        lateness_ns: int,
        connection_wait_ns: int,
        service_time_ns: int,
        outcome: int,
        status: int,
        host: int,
        size: int,
        routing_version: int,
        reason: int,
        resent: int,
    ) -> None:
        """Adds a row. A value that its field cannot hold raises struct.error, or OverflowError when compiled."""
        position = self._position
        if position == self._end:
            self._buffer.extend(bytes(position))
            self._end += position
        _pack_into(
            self._buffer,
            position,
            client,
            sequence,
            intended_ns,
            lateness_ns,
            connection_wait_ns,
            service_time_ns,
            outcome,
            status,
            host,
            size,
            routing_version,
            reason,
            resent,
        )
        self._position = position + ROW_BYTES

    def take(self) -> memoryview:
        """Returns the rows since the last call."""
        taken = memoryview(self._buffer)[: self._position]
        # With room for as many rows again and some more: to copy or to grow would block the event loop.
        self._begin(max(len(self) * 5 // 4, _LEAST_ROWS))
        return taken

    def _begin(self, rows: int) -> None:
        self._buffer = bytearray(rows * ROW_BYTES)
        self._end = len(self._buffer)
        self._position = 0
