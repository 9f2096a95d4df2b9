"""Requests and failures of each client of an interactive group, added up by ingest from what its shards send.

They are kept with the shard as one array, as a row for each of ten thousand clients could not be updated four times a
second: little-endian 64-bit integers, first the requests of clients 0, 1, …, up to the shard's last, then the failures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loadgen.protocol.outcomes import FIRST_NOT_SENT, Outcome

_TYPE = np.dtype("<i8")


def added(stored: bytes | memoryview | None, clients: NDArray[np.int64], outcomes: NDArray[np.int64]) -> bytes:
    """The array with the rows of a batch added. A request that was not sent is a failure, and no request."""
    counts = _array(stored)
    size = max(counts.shape[1], int(clients.max(initial=-1)) + 1)
    requests = np.bincount(clients[outcomes < FIRST_NOT_SENT], minlength=size)
    failures = np.bincount(clients[outcomes != Outcome.COMPLETED], minlength=size)
    total = np.stack([requests, failures]).astype(_TYPE)
    total[:, : counts.shape[1]] += counts
    return total.tobytes()


def read(stored: bytes | memoryview | None) -> dict[int, tuple[int, int]]:
    """(requests, failures) of each client that has any."""
    requests, failures = _array(stored).tolist()
    return {client: both for client, both in enumerate(zip(requests, failures, strict=True)) if both != (0, 0)}


def _array(stored: bytes | memoryview | None) -> NDArray[np.int64]:
    return np.frombuffer(bytes(stored or b""), _TYPE).reshape(2, -1)
