"""Request ids: the names that requests carry on the wire, computed from the rows of the trace."""

from __future__ import annotations

import hashlib
from enum import IntEnum

# As the name of the header, it selects ids in the form of W3C Trace Context.
TRACEPARENT = "traceparent"
REQUEST_ID_HEADER = "X-Request-Id"


class IdForm(IntEnum):
    """How request ids are written."""

    NONE = 0
    DOTTED = 1  # <group>.<client>.<sequence>; the requests after a redirect are numbered behind it: .1, .2, …
    # 00-<trace id>-<span id>-01. The trace id is a digest of the group, client and sequence, 16, 8 and 8 hexadecimal
    # digits; the span id is the sequence and the number of the arrival's request, from 1 on, 8 digits each.
    TRACEPARENT = 2


def id_form(header: str) -> IdForm:
    """The form of the ids that a header carries; "" is no header."""
    if not header:
        return IdForm.NONE
    return IdForm.TRACEPARENT if header.lower() == TRACEPARENT else IdForm.DOTTED


def id_begin(form: IdForm, group_id: str) -> str:
    """The beginning of all ids of a group, up to the client and the sequence."""
    if form == IdForm.DOTTED:
        return f"{group_id}."
    if form == IdForm.TRACEPARENT:
        digest = int.from_bytes(hashlib.sha256(group_id.encode()).digest()[:8], "big")
        return f"00-{digest | 1 << 63:016x}"  # a trace id of nothing but zeros would be void
    return ""


def id_end(form: IdForm, hop: int) -> str:
    """The end of an id, behind client and sequence; `hop` counts the redirects that the arrival followed so far."""
    if form == IdForm.DOTTED:
        return f".{hop}" if hop else ""
    return f"{hop + 1:08x}-01" if form == IdForm.TRACEPARENT else ""


def request_id(group_id: str, client: int, sequence: int, header: str = REQUEST_ID_HEADER) -> str:
    """The id of a request on the wire; it can be computed from its row, and names exactly one arrival."""
    form = id_form(header)
    if form == IdForm.NONE:
        return ""
    middle = f"{client}.{sequence}" if form == IdForm.DOTTED else f"{client:08x}{sequence:08x}-{sequence:08x}"
    return f"{id_begin(form, group_id)}{middle}{id_end(form, 0)}"
