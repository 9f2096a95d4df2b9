"""The types of values in plans: strings, durations, choices, lists of numbers, labels and free JSON.

pydantic itself checks whole numbers and booleans (strictly: neither `true` nor `"5"` is a number). The types here are
those that pydantic lacks, or for which its messages help less. They share their reasons for a refusal, and so are one
module, longer than others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from experiments.plans.parsing import MAX_DEPTH, PlanErrors, refused
from loadgen.protocol.settings import NAME_PATTERN
from loadgen.protocol.variables import PREFIX
from routing import table
from routing.errors import Code, ErrorCollector, Place, shown

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
_NOT_STORABLE_MESSAGE = "must not contain NUL or lone surrogates"

Reason = tuple[Code, str]  # why a value is refused


def text_reason(value: object, most: int = MAX_TEXT) -> Reason | None:
    """For a short string without control characters, which is not blank."""
    if not isinstance(value, str):
        return Code.TYPE, f"must be a string, got {shown(value)}"
    if not value.strip():
        return Code.REQUIRED, "must not be empty"
    if len(value.strip()) > most:
        return Code.RANGE, f"must have at most {most} characters, got {len(value.strip())}"
    if _CONTROL.search(value):
        return Code.FORMAT, "must not contain control characters"
    return None


def number_reason(value: object, low: float, high: float) -> Reason | None:
    """For a finite number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Code.TYPE, f"must be a number, got {shown(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return Code.RANGE, f"must be a finite number, got {value}"
    if value < low:
        return Code.RANGE, f"must be at least {low:g}, got {shown(value)}"
    if value > high:
        return Code.RANGE, f"must be at most {high:,.0f}, got {shown(value)}"
    return None


def whole_number_reason(value: object, low: int, high: int) -> Reason | None:
    """For a whole number from `low` to `high`; 2.0 is refused, too."""
    if isinstance(value, float):
        return Code.TYPE, f"must be a whole number, got {shown(value)}"
    return number_reason(value, low, high)


def json_errors(value: object, errors: ErrorCollector, place: Place = ()) -> bool:
    """Adds everything in `value` that the database's JSON cannot hold; returns whether there was nothing."""
    before = len(errors)
    pending: list[tuple[object, Place]] = [(value, place)]
    while pending:  # no recursion: the depth is the user's
        item, at = pending.pop()
        if isinstance(item, dict | list | tuple) and len(at) - len(place) >= MAX_DEPTH:
            errors.add(place, Code.RANGE, f"lists and mappings are nested more than {MAX_DEPTH} deep")
            break
        if isinstance(item, dict):
            for key, inner in item.items():
                if not isinstance(key, str) or _NOT_STORABLE.search(key):
                    errors.add((*at, "?"), Code.FORMAT, "a key must be a string without NUL and lone surrogates")
                else:
                    pending.append((inner, (*at, key)))
        elif isinstance(item, list | tuple):
            pending.extend((inner, (*at, index)) for index, inner in enumerate(item))
        elif reason := scalar_reason(item):
            errors.add(at, *reason)
    return len(errors) == before


def scalar_reason(value: object) -> Reason | None:
    """For a string, number, boolean or null that the database's JSON can hold."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return (Code.FORMAT, _NOT_STORABLE_MESSAGE) if _NOT_STORABLE.search(value) else None
    if isinstance(value, float):
        return None if math.isfinite(value) else (Code.RANGE, f"must be a finite number, got {value}")
    if isinstance(value, int):
        return number_reason(value, -MAX_INTEGER, MAX_INTEGER)
    return Code.TYPE, f"must be a string, a number, a boolean, a list or a mapping, got {shown(value)}"


# Durations.


def duration_of(value: object) -> float | None:
    """Seconds of a duration as a plan writes it, of any size; None if it is not a duration."""
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


def duration_text(seconds: float) -> str:
    """The duration in its largest whole unit, like `7d`."""
    for unit, size in _UNIT_S.items():
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def duration_reason(value: object, high_s: float) -> Reason | None:
    """For a duration from 1 ms to `high_s`."""
    seconds = duration_of(value)
    if seconds is None:
        code = Code.FORMAT if isinstance(value, str) else Code.TYPE
        return code, f"must be a duration like 10s, 2m, 1h30m or 500ms, or a number of seconds, got {shown(value)}"
    if not MIN_DURATION_S <= seconds <= high_s:
        return Code.RANGE, f"must be from 1ms to {duration_text(high_s)}, got {shown(value)}"
    return None


def seconds_of(value: object, high_s: float) -> float:
    """The seconds of a duration from 1 ms to `high_s`. Raises PydanticCustomError."""
    if reason := duration_reason(value, high_s):
        raise refused(*reason)
    return duration_of(value) or 0.0


def duration(high_s: float = MAX_DURATION_S) -> PlainValidator:
    """A duration from 1 ms to `high_s`, in seconds."""
    return PlainValidator(lambda value: seconds_of(value, high_s), json_schema_input_type=duration_type(high_s))


def duration_type(high_s: float, low_s: float = MIN_DURATION_S) -> Any:
    """The JSON schema of a duration."""
    return (
        Annotated[float, Field(ge=low_s, le=high_s)]
        | Annotated[str, Field(min_length=1, json_schema_extra={"format": "duration"})]
    )


# Strings.


def checked(reason_of: Callable[[Any], Reason | None], kind: Any = str) -> PlainValidator:
    """A value that is taken as it is, unless there is a reason to refuse it."""

    def validated(value: Any) -> Any:
        if reason := reason_of(value):
            raise refused(*reason)
        return value

    return PlainValidator(validated, json_schema_input_type=kind)


def _read_text(value: object) -> str:
    if reason := text_reason(value):
        raise refused(*reason)
    return str(value).strip()


def _service_reason(value: object) -> Reason | None:
    return next(((error.code, error.message) for error in table.find_service_errors(value)), None)


def _app_reason(value: object) -> Reason | None:
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return None
    code = Code.FORMAT if isinstance(value, str) else Code.TYPE
    return code, f"must be the name of a client app (at most 63 letters, digits, '.', '_' and '-'), got {shown(value)}"


class one_of:
    """One of these strings."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = [str(choice) for choice in choices]  # plain strings: of a StrEnum, too

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(self.choices)


# A string that is shown and indexed: not empty, of one line, without blanks around it.
Text = Annotated[
    str, PlainValidator(_read_text, json_schema_input_type=Annotated[str, Field(min_length=1, max_length=MAX_TEXT)])
]
# The printable signs of ASCII but for space, / ? # and %.
_SERVICE_PATTERN = r"^[!\"$&-.0->@-~]+$"
Service = Annotated[
    str,
    checked(
        _service_reason, Annotated[str, Field(min_length=1, max_length=table.MAX_NAME_LENGTH, pattern=_SERVICE_PATTERN)]
    ),
]
ClientApp = Annotated[str, checked(_app_reason, Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")])]


# Lists.


@dataclass(frozen=True)
class Listed:
    """A list with `least` to `most` items, which the message calls `what`; the items are checked by the list's type."""

    most: int
    what: str
    least: int = 0

    def _counted(self, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise refused(Code.TYPE, f"must be a list of {self.what}, got {shown(value)}")
        if len(value) < self.least:
            raise refused(Code.REQUIRED, "must not be empty")
        if len(value) > self.most:
            raise refused(Code.RANGE, f"must have at most {self.most:,} {self.what}, got {len(value):,}")
        return list(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._counted, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "minItems": self.least, "maxItems": self.most}


def number_list(
    reason_of: Callable[[object], Reason | None],
    what: str,
    items: Any,
    most: int = MAX_INTEGER,
    least: int = 0,
    remedy: str = "",
) -> PlainValidator:
    """A list of numbers, each as it is given; in one pass, as there may be 100,000.

    Args:
        remedy: for a list that is too long.
    """

    def read(value: object) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise refused(Code.TYPE, f"must be a list of {what}, got {shown(value)}")
        if not least <= len(value) <= most:
            message = f"must have from {least} to {most:,} numbers, got {len(value):,}"
            raise refused(Code.RANGE, message + (f"; {remedy}" if remedy and len(value) > most else ""))
        errors = PlanErrors()
        for index, item in enumerate(value):
            if reason := reason_of(item):
                errors.add((index,), *reason)
        errors.raise_in_model()
        return list(value)

    bounds = Field(min_length=least or None, max_length=most if most < MAX_INTEGER else None)
    return PlainValidator(read, json_schema_input_type=Annotated[list[items], bounds])


# Mappings.


def _read_json(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refused(Code.TYPE, f"must be a mapping, got {shown(value)}")
    errors = PlanErrors()
    json_errors(value, errors)
    errors.raise_in_model()
    return value


def _read_labels(value: object) -> dict[str, str]:
    """Labels without the prefix `galileo_`."""
    if not isinstance(value, dict):
        raise refused(Code.TYPE, f"must be a mapping of labels like {{zone: A}}, got {shown(value)}")
    errors = PlanErrors()
    labels = {}
    for key, item in value.items():
        place = (key if isinstance(key, str) else shown(key),)
        label = key.removeprefix(PREFIX) if isinstance(key, str) else ""
        if not NAME_PATTERN.fullmatch(label):
            errors.add(place, Code.FORMAT, "the name of a label must have at most 63 letters, digits, '.', '_' and '-'")
        elif label in labels:
            errors.add(place, Code.DUPLICATE, f"the label {label!r} is given twice, with and without {PREFIX}")
        text = str(item) if isinstance(item, int) and not isinstance(item, bool) and abs(item) < 10**18 else item
        if not isinstance(text, str) or not NAME_PATTERN.fullmatch(text):
            code = Code.FORMAT if isinstance(text, str) else Code.TYPE
            errors.add(
                place, code, f"must be a string of at most 63 letters, digits, '.', '_' and '-', got {shown(item)}"
            )
        labels[label] = text if isinstance(text, str) else ""
    errors.raise_in_model()
    return labels


JsonMapping = Annotated[dict[str, Any], PlainValidator(_read_json, json_schema_input_type=dict[str, Any])]
Labels = Annotated[
    dict[str, str],
    PlainValidator(_read_labels),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [{"type": "string", "minLength": 1, "maxLength": 63}, {"type": "integer"}]
            },
        }
    ),
]
