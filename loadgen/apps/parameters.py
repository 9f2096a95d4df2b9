"""The parameters that a client app declares, and the values that a plan gives for them.

A parameter is declared by its default (`size: 32`), or by a mapping with any of `type`, `default`, `minimum`,
`maximum`, `enum` and `description`, which mean what they mean in JSON Schema. One without a default has to be given.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from loadgen.apps.errors import Fault

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
    """`type` is one of TYPES, or "" for any; None takes the place of a minimum, maximum or enum that is not there."""

    type: str = _ANY
    required: bool = False
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    enum: list[Any] | None = None

    def fault_of(self, value: Any) -> str:
        """Why this is no value for the parameter; "" if it is one. The default always is one."""
        if not self.required and value == self.default and type(value) is type(self.default):
            return ""
        if self.type and not _is_of(self.type, value):
            return f"{_article(self.type)} is needed, not {_shown(value)}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"a finite number is needed, not {value}"
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum:g}, not {_shown(value)}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum:g}, not {_shown(value)}"
        if self.enum is not None and value not in self.enum:
            return f"one of {', '.join(map(_shown, self.enum))} is needed, not {_shown(value)}"
        return ""


def read(declared: object, field: str, faults: list[Fault]) -> dict[str, Parameter]:
    """The declared parameters by name; what is wrong is added to `faults`."""
    if not isinstance(declared, dict):
        faults.append(Fault(field, f"a mapping of names is needed, not {_shown(declared)}"))
        return {}
    found = {}
    for name, declaration in declared.items():
        if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
            faults.append(Fault(field, f"a name has 1 to {_MAX_NAME} printable characters, not {_shown(name)}"))
        elif isinstance(declaration, dict):
            found[name] = _read_one(declaration, f"{field}.{name}", faults)
        else:
            found[name] = Parameter(_type_of(declaration), default=declaration)
    return found


def _read_one(declaration: dict[str, Any], field: str, faults: list[Fault]) -> Parameter:
    before = len(faults)
    for key in declaration:
        if key not in _KEYS:
            faults.append(Fault(f"{field}.{key}"[:200], f"unknown key; known here: {', '.join(_KEYS)}"))
    kind = declaration.get("type") or _ANY
    if kind and kind not in TYPES:
        faults.append(Fault(f"{field}.type", f"one of {', '.join(TYPES)} is needed, not {_shown(kind)}"))
        kind = _ANY
    for key in ("minimum", "maximum"):
        bound = declaration.get(key)
        if bound is not None and (not _is_of("number", bound) or not math.isfinite(bound)):
            faults.append(Fault(f"{field}.{key}", f"a number is needed, not {_shown(bound)}"))
        elif bound is not None and kind not in ("integer", "number"):
            faults.append(Fault(f"{field}.{key}", "needs type: integer or type: number"))
    enum = declaration.get("enum")
    if enum is not None and (not isinstance(enum, list) or not enum):
        faults.append(Fault(f"{field}.enum", f"a list of values is needed, not {_shown(enum)}"))
    if len(faults) > before:
        return Parameter(_ANY, required="default" not in declaration)
    parameter = Parameter(
        kind, "default" not in declaration, None, declaration.get("minimum"), declaration.get("maximum"), enum
    )
    default = declaration.get("default")
    if default is not None and (reason := parameter.fault_of(default)):
        faults.append(Fault(f"{field}.default", reason))
    return Parameter(kind, parameter.required, default, parameter.minimum, parameter.maximum, enum)


def filled(
    declared: Mapping[str, Parameter] | None, given: Mapping[str, Any], field: str
) -> tuple[dict[str, Any], list[Fault]]:
    """The values for an app, defaults included, and what is wrong with those that were given.

    Args:
        declared: None for an app that declares none, which takes whatever it is given.
        field: what the faults' fields begin with.
    """
    if declared is None:
        return dict(given), []
    faults = []
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(name[:60], declared, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(declared) or 'none'}"
            faults.append(Fault(f"{field}.{name}"[:200], f"the client app has no such parameter; {hint}"))
        elif reason := declared[name].fault_of(value):
            faults.append(Fault(f"{field}.{name}", reason))
    for name, parameter in declared.items():
        if parameter.required and name not in given:
            faults.append(Fault(f"{field}.{name}", "is missing, and the client app has no default for it"))
    return {**{name: parameter.default for name, parameter in declared.items()}, **given}, faults


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


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, dict | list | tuple):
        return "an object" if isinstance(value, dict) else "an array"
    return f"{value!r:.60}"
