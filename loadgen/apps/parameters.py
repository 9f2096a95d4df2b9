"""The parameters that a client app declares, and the values that a plan gives for them.

A parameter is declared by its default (`size: 32`), or by a mapping with any of `type`, `default`, `minimum`,
`maximum`, `enum` and `description`, with the meanings of JSON Schema. One without a default is required.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from routing.errors import Code, ErrorCollector, FieldError, shown

_PYTHON: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}
TYPES: Final = tuple(_PYTHON)
_ANY: Final = ""
_KEYS: Final = ("type", "default", "minimum", "maximum", "enum", "description")
_MAX_NAME: Final = 100


@dataclass(frozen=True)
class Parameter:
    """A declared parameter: `type` is one of TYPES, or "" for any; `minimum`, `maximum` and `enum` may be None."""

    type: str = _ANY
    required: bool = False
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    enum: list[Any] | None = None

    def reason_against(self, value: Any) -> tuple[Code, str] | None:
        """Returns why a value is refused; None if it is accepted, as the default always is."""
        if not self.required and value == self.default and type(value) is type(self.default):
            return None
        if self.type and not _is_of(self.type, value):
            return Code.TYPE, f"must be {_article(self.type)}, got {shown(value)}"
        if isinstance(value, float) and not math.isfinite(value):
            return Code.RANGE, f"must be a finite number, got {value}"
        if self.minimum is not None and value < self.minimum:
            return Code.RANGE, f"must be at least {self.minimum:g}, got {shown(value)}"
        if self.maximum is not None and value > self.maximum:
            return Code.RANGE, f"must be at most {self.maximum:g}, got {shown(value)}"
        if self.enum is not None and value not in self.enum:
            return Code.CHOICE, f"must be one of {', '.join(map(shown, self.enum))}, got {shown(value)}"
        return None


def read(declared: object, field: str, errors: ErrorCollector) -> dict[str, Parameter]:
    """The declared parameters by name; errors are added to `errors`."""
    if not isinstance(declared, dict):
        errors.add(field, Code.TYPE, f"must be a mapping of names, got {shown(declared)}")
        return {}
    found = {}
    for name, declaration in declared.items():
        if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
            errors.add(field, Code.FORMAT, f"a name must have 1 to {_MAX_NAME} printable characters, got {shown(name)}")
        elif isinstance(declaration, dict):
            found[name] = _read_one(declaration, f"{field}.{name}", errors)
        else:
            found[name] = Parameter(_type_of(declaration), default=declaration)
    return found


def _read_one(declaration: dict[str, Any], field: str, errors: ErrorCollector) -> Parameter:
    before = len(errors)
    for key in declaration:
        if key not in _KEYS:
            errors.add(f"{field}.{key}"[:200], Code.UNKNOWN, f"unknown key; must be one of {', '.join(_KEYS)}")
    kind = declaration.get("type") or _ANY
    if kind and kind not in TYPES:
        errors.add(f"{field}.type", Code.CHOICE, f"must be one of {', '.join(TYPES)}, got {shown(kind)}")
        kind = _ANY
    for key in ("minimum", "maximum"):
        bound = declaration.get(key)
        if bound is not None and (not _is_of("number", bound) or not math.isfinite(bound)):
            errors.add(f"{field}.{key}", Code.TYPE, f"must be a number, got {shown(bound)}")
        elif bound is not None and kind not in ("integer", "number"):
            errors.add(f"{field}.{key}", Code.CONFLICT, "needs type: integer or type: number")
    enum = declaration.get("enum")
    if enum is not None and (not isinstance(enum, list) or not enum):
        errors.add(f"{field}.enum", Code.TYPE, f"must be a list of values, got {shown(enum)}")
    if len(errors) > before:
        return Parameter(_ANY, required="default" not in declaration)
    parameter = Parameter(
        kind, "default" not in declaration, None, declaration.get("minimum"), declaration.get("maximum"), enum
    )
    default = declaration.get("default")
    if default is not None and (reason := parameter.reason_against(default)):
        errors.add(f"{field}.default", *reason)
    return Parameter(kind, parameter.required, default, parameter.minimum, parameter.maximum, enum)


def filled(
    declared: Mapping[str, Parameter] | None, given: Mapping[str, Any], field: str
) -> tuple[dict[str, Any], list[FieldError]]:
    """The values for an app, defaults included, and the errors in the given ones.

    Args:
        declared: None for an app that declares none and accepts any.
        field: the beginning of the errors' paths.
    """
    if declared is None:
        return dict(given), []
    errors = []
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(name[:60], declared, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(declared) or 'none'}"
            message = f"the client app has no such parameter; {hint}"
            errors.append(FieldError(f"{field}.{name}"[:200], Code.UNKNOWN, message))
        elif reason := declared[name].reason_against(value):
            errors.append(FieldError(f"{field}.{name}", *reason))
    for name, parameter in declared.items():
        if parameter.required and name not in given:
            message = "is missing, and the client app has no default for it"
            errors.append(FieldError(f"{field}.{name}", Code.REQUIRED, message))
    return {**{name: parameter.default for name, parameter in declared.items()}, **given}, errors


def _is_of(kind: str, value: Any) -> bool:
    return isinstance(value, _PYTHON[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _type_of(default: Any) -> str:
    """The type of a parameter that is declared by its default alone: any number may take the place of another."""
    if isinstance(default, bool):
        return "boolean"
    if isinstance(default, int | float):
        return "number"
    return next((kind for kind in ("string", "array") if isinstance(default, _PYTHON[kind])), _ANY)


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aio' else 'a'} {kind}"
