"""Messages as plain data and as JSON, and back, with checked fields and versions."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from enum import StrEnum
from typing import Any, TypeVar

WIRE_VERSION = 1


class MessageError(ValueError):
    """A message has an unknown version, or a field that is missing, unknown or of the wrong type."""


Message = TypeVar("Message")


def to_wire(message: Any) -> dict[str, Any]:
    """A message as plain data for JSON or msgpack, with its version under `v`."""
    return {"v": WIRE_VERSION, **_plain(message)}


def _plain(message: Any) -> dict[str, Any]:
    """As `dataclasses.asdict`, but only messages are copied, because a shard does this while it sends."""
    return {name: _plain(value) if dataclasses.is_dataclass(value) else value for name, value in vars(message).items()}


def from_wire(kind: type[Message], data: Any) -> Message:
    """A message from plain data.

    Raises:
        MessageError: for an unknown version, and for missing, unknown or wrongly typed fields.
    """
    if not isinstance(data, dict):
        raise MessageError(f"{kind.__name__}: must be a mapping, got {type(data).__name__}")
    data = dict(data)
    version = data.pop("v", None)
    if version != WIRE_VERSION:
        raise MessageError(
            f"{kind.__name__}: version {version!r} is unknown, this is version {WIRE_VERSION}; update the older side"
        )
    return _build(kind, data, kind.__name__)


def to_json(message: Any) -> str:
    return json.dumps(to_wire(message), separators=(",", ":"))


def from_json(kind: type[Message], text: str | bytes) -> Message:
    """Raises MessageError as `from_wire` does, and for text that is not JSON."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise MessageError(f"{kind.__name__}: is not valid JSON: {error}") from error
    return from_wire(kind, data)


def _build(kind: type[Message], data: dict[str, Any], where: str) -> Message:
    hints = _type_hints(kind)
    if unknown := sorted(set(data) - set(hints)):
        raise MessageError(f"{where}: unknown fields {', '.join(unknown)}")
    values = {name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise MessageError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):  # only `T | None` is used
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise MessageError(f"{where}: must be a mapping, got {type(value).__name__}")
        return _build(hint, value, where)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        try:
            return hint(value)
        except ValueError:
            raise MessageError(f"{where}: must be one of {', '.join(hint)}, got {value!r:.80}") from None
    plain = typing.get_origin(hint) or hint
    accepted = (int, float) if plain is float else plain
    if not isinstance(value, accepted) or (isinstance(value, bool) and plain is not bool):
        raise MessageError(f"{where}: must be {plain.__name__}, got {value!r:.80}")
    return value


_hints: dict[type, dict[str, Any]] = {}


def _type_hints(kind: type) -> dict[str, Any]:
    if kind not in _hints:
        _hints[kind] = typing.get_type_hints(kind)
    return _hints[kind]
