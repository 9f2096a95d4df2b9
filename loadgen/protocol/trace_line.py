"""A trace as a line, as it is known outside: in a worker's own trace log, and over the controller's API."""

from __future__ import annotations

from typing import NamedTuple

from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import REQUEST_ID_HEADER, request_id


class TraceLine(NamedTuple):
    """A trace, its first nine fields those of the original's. Times are ns in the broker's clock; None: that never
    happened."""

    request_id: str
    client: str
    service: str
    created: int  # when it was intended
    sent: int | None
    done: int | None
    status: int | None
    server: str
    exp_id: str
    dispatched: int | None
    outcome: str
    size: int
    routing_version: int


def trace_line(
    group_id: str,
    client: int,
    sequence: int,
    request_id_header: str,
    *,
    service: str,
    created: int,
    sent: int | None,
    done: int | None,
    status: int | None,
    server: str,
    exp_id: str,
    dispatched: int | None,
    outcome: int,
    size: int,
    routing_version: int,
) -> TraceLine:
    """The line of a client's arrival; without ids on the wire the arrival has its name all the same."""
    return TraceLine(
        request_id(group_id, client, sequence, request_id_header or REQUEST_ID_HEADER),
        f"{group_id}.{client}",
        service,
        created,
        sent,
        done,
        status,
        server,
        exp_id,
        dispatched,
        Outcome(outcome).name.lower(),
        size,
        routing_version,
    )
