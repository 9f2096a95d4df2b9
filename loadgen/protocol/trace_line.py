"""TraceLine: a trace as a line of a worker's own trace log and of the controller's API."""

from __future__ import annotations

from typing import Any, NamedTuple

from loadgen.protocol.outcomes import MalformedReason, Outcome
from loadgen.protocol.request_ids import REQUEST_ID_HEADER, id_form, request_id


class TraceLine(NamedTuple):
    """A trace; the first nine fields are those of the original. Times are ns in the broker's clock, None if it never
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
    reason: str  # of a malformed response, the name of a MalformedReason
    resent: int  # 1 if the request was sent a second time
    address: str  # behind the name of `server`; "" if that is an address, or nothing was connected


def trace_line(
    group_id: str,
    client: int,
    sequence: int,
    request_id_header: str,
    ids_version: int,
    outcome: int,
    reason: int,
    **fields: Any,
) -> TraceLine:
    """Returns the line of a client's arrival; `fields` are the other ones of TraceLine.

    The arrival has an id even if its workload sends none.
    """
    form = id_form(request_id_header or REQUEST_ID_HEADER, ids_version)
    return TraceLine(
        request_id=request_id(group_id, client, sequence, form),
        client=f"{group_id}.{client}",
        outcome=Outcome(outcome).name.lower(),
        reason=MalformedReason(reason).name.lower() if reason else "",
        **fields,
    )
