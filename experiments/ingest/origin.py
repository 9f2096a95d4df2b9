"""Whose batch it is: what an answer to its worker needs, also where the rest of the batch cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.models.trace import ROW_BITS
from loadgen.protocol.batch import MESSAGE_MAGIC, unpack_header, unpack_message
from loadgen.protocol.codec import MessageError
from loadgen.protocol.environment import NAME_PATTERN
from loadgen.protocol.messages import batch_id, check_group_id

MAX_INTEGER = (1 << 31) - 1  # of a PositiveIntegerField

_BOUNDS = {
    "shard_id": (1, (1 << (63 - ROW_BITS)) - 1),
    "attempt": (1, MAX_INTEGER),
    "number": (0, MAX_INTEGER - 1),
}


@dataclass(frozen=True)
class Origin:
    """The worker whose agent waits for the answer, and what names the batch."""

    worker: str
    group_id: str
    shard_id: int
    attempt: int
    number: int

    @property
    def batch(self) -> str:
        return batch_id(self.group_id, self.shard_id, self.attempt, self.number)


def origin_of(header: Mapping[str, Any]) -> Origin:
    """The origin in a header's fields, which may be those of another version.

    Raises:
        MessageError: naming the field that no batch of any worker can have.
    """
    worker, group_id = header.get("worker"), header.get("group_id")
    if not isinstance(worker, str) or not NAME_PATTERN.fullmatch(worker):
        raise MessageError(f"batch: worker: a worker's name is needed, not {worker!r:.80}")
    if not isinstance(group_id, str):
        raise MessageError(f"batch: group_id: a text is needed, not {group_id!r:.80}")
    check_group_id(group_id)
    numbers = {}
    for name, (low, high) in _BOUNDS.items():
        value = header.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise MessageError(f"batch: {name} lies outside {low} to {high}: {value!r:.80}")
        numbers[name] = value
    return Origin(worker, group_id, **numbers)


def find_origin(payload: bytes) -> Origin | None:
    """The origin of a message that cannot be read as a batch; None if it does not tell."""
    try:
        header, _ = unpack_header(unpack_message(payload), MESSAGE_MAGIC)
        return origin_of(header) if isinstance(header, dict) else None
    except MessageError:
        return None
