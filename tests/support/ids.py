"""Request ids as a target sees them."""

from __future__ import annotations

from loadgen.protocol.request_ids import IdForm, id_begin


def begin_of(group_id: str) -> str:
    """The beginning of all ids of a group, or of an experiment."""
    return id_begin(IdForm.DASHED, group_id)


def arrival_of(name: str) -> tuple[int, int]:
    """The client and the sequence of an arrival's first request."""
    client, sequence = name.split("-")[-2:]
    return int(client), int(sequence)
