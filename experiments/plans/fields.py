"""Typed reading of plain data. Every method returns a usable value and notes what is wrong, so that reading goes on."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from experiments.plans.document import MAX_DEPTH
from experiments.plans.errors import Problems

NS = 1_000_000_000
MAX_TEXT = 191  # the text columns of the models
MIN_DURATION_S = 0.001
MAX_DURATION_S = 7 * 24 * 3600
MAX_INTEGER = 2**63 - 1

_DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m(?!s))?"
    r"(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+(?:\.\d+)?)ms)?",
    re.ASCII,
)
_UNIT_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_STORABLE = re.compile(r"[\x00\ud800-\udfff]")  # PostgreSQL's JSON takes no NUL, UTF-8 no lone surrogate

Number = TypeVar("Number", int, float)


def shown(value: object) -> str:
    """A short text of any value for an error message; never fails, whatever its size."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "…")
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a {type(value).__name__}"


def child(path: str, key: object) -> str:
    """The path of a mapping's key."""
    name = key[:60] if isinstance(key, str) and key.strip() and key.isprintable() else shown(key)
    return f"{path}.{name}" if path else name


class Section:
    """A mapping of the plan, read key by key; `close` notes the keys that nobody asked for.

    Something that is no mapping is noted once and then read as an empty one, without further errors
    (`broken`).
    """

    def __init__(self, data: object, path: str, problems: Problems) -> None:
        self.path = path
        self.problems = problems
        self.broken = not isinstance(data, dict)
        if self.broken:
            problems.add(path or "plan", f"a mapping is needed, not {shown(data)}")
        self._data: dict[Any, Any] = data if isinstance(data, dict) else {}
        self._asked: dict[str, None] = {}  # in the order of asking

    def at(self, key: str) -> str:
        return child(self.path, key)

    def wrong(self, key: str, message: str) -> None:
        self.problems.add(self.at(key), message)

    def __contains__(self, key: str) -> bool:
        """Whether the key is there, with a value or without."""
        return key in self._data

    def has(self, key: str) -> bool:
        """Whether there is a value; `key:` without one counts as absent."""
        self._asked[key] = None
        return self._data.get(key) is not None

    def get(self, key: str, required: bool = False) -> Any:
        """The raw value, None if absent."""
        found = self.has(key)
        if required and not found and not self.broken:
            self.wrong(key, "is missing")
        return self._data.get(key)

    def close(self) -> None:
        for key in self._data:
            if key not in self._asked:
                near = difflib.get_close_matches(key[:60], self._asked, n=1) if isinstance(key, str) else []
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(self._asked)}"
                self.problems.add(child(self.path, key), f"unknown key; {hint}")

    def text(self, key: str, default: str, required: bool = False) -> str:
        value = self.get(key, required)
        if value is None:
            return default
        reason = text_reason(value)
        if reason:
            self.wrong(key, reason)
            return default
        return str(value).strip()

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or value not in choices:
            self.wrong(key, f"one of {', '.join(choices)} is needed, not {shown(value)}")
            return default
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(key, f"true or false is needed, not {shown(value)}")
            return default
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(key, f"a whole number from {low} to {high} is needed, not {shown(value)}")
            return default
        if not low <= value <= high:
            self.wrong(key, f"must be from {low} to {high}, not {shown(value)}")
            return default
        return value

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        """As `integer`; None if absent."""
        return self.integer(key, low, low, high) if self.has(key) else None

    def duration_ns(self, key: str, high_s: float = MAX_DURATION_S) -> int | None:
        """A duration that must be there, in ns; None if it is missing or wrong."""
        value = self.get(key, required=True)
        if value is None:
            return None
        seconds = self.seconds(key, value, high_s)
        return None if seconds is None else round(seconds * NS)

    def duration_s(self, key: str, default: float, high_s: float) -> float:
        value = self.get(key)
        seconds = None if value is None else self.seconds(key, value, high_s)
        return default if seconds is None else seconds

    def seconds(self, key: str, value: object, high_s: float) -> float | None:
        """The seconds of a duration from 1 ms to `high_s`; None, and noted at `key`, if it is none."""
        seconds = duration_of(value)
        if seconds is None:
            self.wrong(
                key, f"a duration like 10s, 2m, 1h30m, 500ms or a number of seconds is needed, not {shown(value)}"
            )
        elif not MIN_DURATION_S <= seconds <= high_s:
            self.wrong(key, f"must be from 1ms to {_as_duration(high_s)}, not {shown(value)}")
            return None
        return seconds

    def json_mapping(self, key: str) -> dict[str, Any]:
        """A mapping of anything that JSON can hold."""
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(key, f"a mapping is needed, not {shown(value)}")
            return {}
        return value if check_json(value, self.at(key), self.problems) else {}


def text_reason(value: object, most: int = MAX_TEXT) -> str | None:
    """Why this is no short, printable, non-empty text, or None."""
    if not isinstance(value, str):
        return f"a text is needed, not {shown(value)}"
    if not value.strip():
        return "must not be empty"
    if len(value.strip()) > most:
        return f"must have at most {most} characters, not {len(value.strip())}"
    if _CONTROL.search(value):
        return "must not contain control characters"
    return None


def number_reason(value: object, low: float, high: float) -> str | None:
    """Why this is no finite number from `low` to `high`, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"a number is needed, not {shown(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"a finite number is needed, not {value}"
    if value < low:
        return f"must be at least {low:g}, not {shown(value)}" if low else f"must not be negative: {shown(value)}"
    if value > high:
        return f"must be at most {high:,.0f}, not {shown(value)}"
    return None


def duration_of(value: object) -> float | None:
    """Seconds of a duration as a plan writes it, of any size; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return float(value) if value.bit_length() <= 64 else math.inf
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if not isinstance(value, str) or len(value) > 60 or not value.strip():
        return None
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        return None
    return sum(float(number) * _UNIT_S[unit] for unit, number in found.groupdict().items() if number)


def check_json(value: object, path: str, problems: Problems) -> bool:
    """Notes everything in `value` that the database's JSON cannot hold; True if there was nothing."""
    before = len(problems)
    pending: list[tuple[object, str, int]] = [(value, path, 0)]
    while pending:  # no recursion: the depth is the user's
        item, place, depth = pending.pop()
        if isinstance(item, dict | list | tuple) and depth >= MAX_DEPTH:
            problems.add(path, f"lists and mappings are nested more than {MAX_DEPTH} deep")
            break
        if isinstance(item, dict):
            for key, inner in item.items():
                if not isinstance(key, str) or _NOT_STORABLE.search(key):
                    problems.add(child(place, "?"), "a key must be a text without NUL and lone surrogates")
                else:
                    pending.append((inner, child(place, key), depth + 1))
        elif isinstance(item, list | tuple):
            pending.extend((inner, f"{place}[{index}]", depth + 1) for index, inner in enumerate(item))
        else:
            reason = _leaf_reason(item)
            if reason:
                problems.add(place, reason)
    return len(problems) == before


def _leaf_reason(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return "must not contain NUL or lone surrogates" if _NOT_STORABLE.search(value) else None
    if isinstance(value, int | float):
        return number_reason(value, -MAX_INTEGER, MAX_INTEGER) if isinstance(value, int) else _float_reason(value)
    return f"texts, numbers, booleans, lists and mappings are accepted, not {shown(value)}"


def _float_reason(value: float) -> str | None:
    return None if math.isfinite(value) else f"a finite number is needed, not {value}"


def _as_duration(seconds: float) -> str:
    for unit, size in _UNIT_S.items():
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
