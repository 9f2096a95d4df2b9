"""Telemetry and events on the wire: the topics that the original Galileo and telemd use, for their tools and ours.

- channel `telem/<node>/<metric>[/<subsystem>]`: "<timestamp> <value>"
- channel `galileo/events`: "<timestamp> <name> [<value>]"
- channel `telemcmd/<node>`: "pause", "unpause" or "info"; nodes that can be paused subscribe to it
- hash `telemd.info:<node>`: arch, cpus, ram (kB), boot, disk and net (names, with spaces between), hostname, netspeed
  (Mbit/s)

Timestamps are seconds since the Unix epoch, taken as they were sent; our own agents send the broker's clock.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from loadgen.protocol.codec import MessageError

TELEMETRY_PATTERN = "telem/*"
EVENTS_CHANNEL = "galileo/events"
COMMANDS_PREFIX = "telemcmd/"
COMMANDS_PATTERN = f"{COMMANDS_PREFIX}*"
PAUSE, UNPAUSE, INFO = "pause", "unpause", "info"

MAX_NODE, MAX_METRIC, MAX_SUBSYSTEM, MAX_EVENT_NAME = 191, 63, 191, 191
MAX_EVENT_VALUE = 10_000
MAX_NS = 2**63 - 1  # in the year 2262

_TIMESTAMP = re.compile(r"([0-9]{1,10})(?:\.([0-9]{0,30}))?", re.ASCII)
_WORDS = {"true": 1.0, "false": 0.0}  # some tools send these as a status
_NS_DIGITS = 9


def telemetry_channel(node: str, metric: str, subsystem: str = "") -> str:
    """The channel of one metric of a node."""
    return f"telem/{node}/{metric}/{subsystem}" if subsystem else f"telem/{node}/{metric}"


def commands_channel(node: str) -> str:
    """The channel of a node's commands."""
    return f"{COMMANDS_PREFIX}{node}"


def node_info_key(node: str) -> str:
    """The hash of a node's facts."""
    return f"telemd.info:{node}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric of a node; `subsystem` is a device, say, and "" for the whole node."""

    node: str
    metric: str
    subsystem: str
    timestamp_ns: int
    value: float


@dataclass(frozen=True, slots=True)
class Mark:
    """An event that was published on the events channel."""

    timestamp_ns: int
    name: str
    value: str = ""


def sample_text(timestamp_ns: int, value: float) -> str:
    """The published text of a sample."""
    seconds, rest_ns = divmod(timestamp_ns, 1_000_000_000)
    return f"{seconds}.{rest_ns // 1000:06d} {value:f}"


def parse_sample(channel: bytes, payload: bytes) -> Sample:
    """Raises MessageError for an invalid channel, timestamp or value."""
    _, node, metric, subsystem = [*_text(channel, "channel").split("/", 3), "", "", ""][:4]
    timestamp, _, value = _text(payload, "payload").strip().partition(" ")
    return Sample(
        _name(node, "node", MAX_NODE),
        _name(metric, "metric", MAX_METRIC),
        _name(subsystem, "subsystem", MAX_SUBSYSTEM) if subsystem else "",
        _timestamp_ns(timestamp),
        _number(value.strip()),
    )


def parse_mark(payload: bytes) -> Mark:
    """Raises MessageError for an invalid timestamp, name or value."""
    timestamp, name, value = [*_text(payload, "payload").split(" ", 2), "", ""][:3]
    if "\0" in value or len(value) > MAX_EVENT_VALUE:
        raise MessageError(f"value: must have at most {MAX_EVENT_VALUE} characters, none of them NUL")
    return Mark(_timestamp_ns(timestamp), _name(name, "name", MAX_EVENT_NAME), value)


def is_name(text: str, longest: int) -> bool:
    """Returns whether a node, metric, subsystem or event may have this name."""
    return 0 < len(text) <= longest and text.isprintable()


def _name(text: str, what: str, longest: int) -> str:
    if not is_name(text, longest):
        raise MessageError(f"{what}: must have 1 to {longest} printable characters, got {text!r:.80}")
    return text


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MessageError(f"{what}: must be valid UTF-8, got {data!r:.80}") from None


def _timestamp_ns(text: str) -> int:
    """Does not use a float, which would lose the last digits of a ns."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise MessageError(f"timestamp: must be seconds since the Unix epoch, got {text!r:.80}")
    fraction = (found[2] or "").ljust(_NS_DIGITS, "0")[:_NS_DIGITS]
    timestamp_ns = int(found[1]) * 1_000_000_000 + int(fraction)
    if timestamp_ns > MAX_NS:
        raise MessageError(f"timestamp: {text!r:.80} is too far ahead")
    return timestamp_ns


def _number(text: str) -> float:
    try:
        value = _WORDS[text] if text in _WORDS else float(text)
    except ValueError:
        raise MessageError(f"value: must be a number, got {text!r:.80}") from None
    if not math.isfinite(value):
        raise MessageError(f"value: must be a finite number, got {text!r:.80}")
    return value
