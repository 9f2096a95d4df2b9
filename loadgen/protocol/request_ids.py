"""Request ids: the names that requests carry on the wire, computed from the rows of the trace."""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Final

# As the name of the header, it selects ids in the form of W3C Trace Context.
TRACEPARENT = "traceparent"
REQUEST_ID_HEADER = "X-Request-Id"
# The version of the ids in other headers: 1 is DOTTED, 2 is DASHED. Stored workloads without a version have the first.
IDS_VERSION: Final = 2

# Envoy changes the 15th character of ids with exactly 36 characters; Phoenix and Heroku replace those of fewer than 20.
_PREFIX: Final = "galileo-request-"
_LEAST_GROUP: Final = 15


class IdForm(IntEnum):
    """How request ids are written."""

    NONE = 0
    DOTTED = 1  # <group>.<client>.<sequence>; the requests after a redirect are numbered behind it: .1, .2, …
    # 00-<trace id>-<span id>-01. The trace id is a digest of the group, client and sequence, 16, 8 and 8 hexadecimal
    # digits; the span id is the sequence and the number of the arrival's request, from 1 on, 8 digits each.
    TRACEPARENT = 2
    # <group>-<client>-<sequence>, and -1, -2, … behind it. Client and sequence have 10 digits at least, and the dot of
    # the group is a dash: letters, digits and dashes pass through targets that remove or replace other ids.
    DASHED = 3


def id_form(header: str, version: int) -> IdForm:
    """The form of the ids that a header carries; "" is no header."""
    if not header:
        return IdForm.NONE
    if header.lower() == TRACEPARENT:
        return IdForm.TRACEPARENT
    return IdForm.DOTTED if version == 1 else IdForm.DASHED


def id_begin(form: IdForm, group_id: str) -> str:
    """The beginning of all ids of a group, up to the client and the sequence."""
    if form == IdForm.DOTTED:
        return f"{group_id}."
    if form == IdForm.TRACEPARENT:
        digest = int.from_bytes(hashlib.sha256(group_id.encode()).digest()[:8], "big")
        return f"00-{digest | 1 << 63:016x}"  # a trace id of nothing but zeros would be void
    if form == IdForm.DASHED:
        group = group_id.replace(".", "-")
        prefix = _PREFIX if len(group) < _LEAST_GROUP or group.startswith(_PREFIX) else ""
        return f"{prefix}{group}-"
    return ""


def id_end(form: IdForm, hop: int) -> str:
    """The end of an id, behind client and sequence; `hop` counts the arrival's requests before this one."""
    if form == IdForm.DOTTED:
        return f".{hop}" if hop else ""
    if form == IdForm.DASHED:
        return f"-{hop}" if hop else ""
    return f"{hop + 1:08x}-01" if form == IdForm.TRACEPARENT else ""


def request_id(group_id: str, client: int, sequence: int, form: IdForm = IdForm.DASHED) -> str:
    """The id of a request on the wire; it can be computed from its row, and names exactly one arrival."""
    if form == IdForm.NONE:
        return ""
    middle = {
        IdForm.DOTTED: f"{client}.{sequence}",
        IdForm.TRACEPARENT: f"{client:08x}{sequence:08x}-{sequence:08x}",
        IdForm.DASHED: f"{client:010}-{sequence:010}",
    }[form]
    return f"{id_begin(form, group_id)}{middle}{id_end(form, 0)}"
