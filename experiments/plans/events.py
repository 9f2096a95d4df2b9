"""A plan's own events: marks on the experiment's timeline, each at its time after the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.plans.fields import MAX_DURATION_S, NS, Section, check_json, duration_of, shown

MAX_EVENTS = 10_000
MAX_VALUE = 4000


@dataclass(frozen=True)
class TimedEvent:
    """An event at a time since the start."""

    at_ns: int
    name: str
    value: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"at": self.at_ns / NS, "name": self.name, "value": self.value}


def read_events(root: Section, duration_ns: int) -> list[TimedEvent]:
    """The events in the plan's order; what is wrong is noted.

    Args:
        duration_ns: of the plan; 0 where the plan does not say so rightly.
    """
    listed = root.get("events")
    if listed is None:
        return []
    if not isinstance(listed, list | tuple):
        root.wrong("events", f"a list of mappings with `at` and `name` is needed, not {shown(listed)}")
        return []
    if len(listed) > MAX_EVENTS:
        root.wrong("events", f"at most {MAX_EVENTS:,} events are accepted, not {len(listed):,}")
    return [
        _read_event(Section(item, root.at(f"events[{index}]"), root.problems), duration_ns)
        for index, item in enumerate(listed[:MAX_EVENTS])
    ]


def _read_event(section: Section, duration_ns: int) -> TimedEvent:
    event = TimedEvent(_read_at(section, duration_ns), section.text("name", "", required=True), _read_value(section))
    section.close()
    return event


def _read_at(section: Section, duration_ns: int) -> int:
    value = section.get("at", required=True)
    if value is None:
        return 0
    at_s = duration_of(value)
    if at_s is None or at_s < 0:
        section.wrong("at", f"a time after the start, like 90s or a number of seconds, is needed, not {shown(value)}")
    elif duration_ns and round(min(at_s, MAX_DURATION_S + 1) * NS) > duration_ns:
        section.wrong("at", f"must not be after the plan's end ({duration_ns / NS:g} s), and is {shown(value)}")
    elif duration_ns:
        return round(at_s * NS)
    return 0


def _read_value(section: Section) -> str:
    value = section.get("value")
    if value is None:
        return ""
    if not isinstance(value, str):
        section.wrong("value", f"a text is needed, not {shown(value)}")
    elif len(value) > MAX_VALUE:
        section.wrong("value", f"must have at most {MAX_VALUE} characters, not {len(value)}")
    elif check_json(value, section.at("value"), section.problems):
        return value
    return ""
