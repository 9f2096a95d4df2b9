"""Which ids an experiment may be given."""

from __future__ import annotations

import re

from experiments.plans.fields import Section, shown

# What addresses, file names and request ids can hold.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,23}")
# On PostgreSQL a partition of that name would be in the way of the traces' own index.
_RESERVED = frozenset({"pkey"})


def read_id(section: Section, key: str) -> str | None:
    """A permitted id, or None where none is given; whether it is free is another matter."""
    value = section.get(key)
    if value is None:
        return None
    reason = _reason(value) if isinstance(value, str) else "a text is needed"
    if reason:
        section.wrong(key, f"{reason}, not {shown(value)}")
        return None
    return str(value)


def _reason(value: str) -> str | None:
    if not _ID.fullmatch(value):
        return "up to 24 letters, digits and -, the first one no -, are needed"
    return "is reserved" if value in _RESERVED else None
