"""`manifest.yml` of a client app."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from loadgen.apps import parameters
from loadgen.apps.errors import AppInvalid, Fault
from loadgen.apps.parameters import Parameter
from loadgen.protocol import plain_yaml
from loadgen.protocol.environment import NAME_PATTERN

MANIFEST: Final = "manifest.yml"
MAX_MANIFEST_BYTES: Final = 64 << 10
MAX_VERSION: Final = 100
MAX_DESCRIPTION: Final = 4000
_MAX_INTEGER: Final = 2**63


@dataclass(frozen=True)
class Manifest:
    """What an app says of itself; `content` is all of the file, unknown keys included, as the app itself sees it.

    `parameters` is None when the app declares none, which takes any then. `shared`: one execution serves all clients of
    a shard.
    """

    name: str
    version: str = ""
    description: str = ""
    parameters: dict[str, Parameter] | None = None
    shared: bool = False
    content: dict[str, Any] = field(default_factory=dict)


def read_manifest(text: bytes, name: str = "") -> Manifest:
    """A manifest from the bytes of its file.

    Args:
        name: what the app is called when the manifest does not say; "" if it has to.

    Raises:
        AppInvalid: with all that is wrong.
    """
    try:
        content = plain_yaml.load(text, MAX_MANIFEST_BYTES)
    except plain_yaml.YamlInvalid as error:
        raise AppInvalid([Fault(MANIFEST, str(error))]) from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise AppInvalid([Fault(MANIFEST, f"must hold a mapping, not a {type(content).__name__}")])
    faults: list[Fault] = []
    _check_storable(content, MANIFEST, faults)
    declared = content.get("parameters")
    manifest = Manifest(
        name=_read_name(content, name, faults),
        version=_read_text(content, "version", MAX_VERSION, faults),
        description=_read_text(content, "description", MAX_DESCRIPTION, faults),
        parameters=None if declared is None else parameters.read(declared, f"{MANIFEST}: parameters", faults),
        shared=_read_flag(content, "shared", faults),
        content=content,
    )
    if faults:
        raise AppInvalid(faults)
    return manifest


def declared_parameters(content: dict[str, Any]) -> dict[str, Parameter] | None:
    """The parameters that a manifest's content, which was checked before, declares; None if it declares none."""
    declared = content.get("parameters")
    return None if declared is None else parameters.read(declared, "", [])


def _read_name(content: dict[str, Any], name: str, faults: list[Fault]) -> str:
    value = content.get("name")
    if value is None and name:
        return name
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        reason = "is missing: it names the app" if value is None else f"not {value!r:.80}"
        rule = "letters, digits, '.', '_' and '-' are needed (at most 63, a letter or digit first)"
        faults.append(Fault(f"{MANIFEST}: name", reason if value is None else f"{rule}, {reason}"))
        return name
    return value


def _read_text(content: dict[str, Any], key: str, most: int, faults: list[Fault]) -> str:
    value = content.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or len(str(value)) > most:
        faults.append(Fault(f"{MANIFEST}: {key}", f"a text of at most {most} characters is needed"))
        return ""
    return str(value).strip()


def _read_flag(content: dict[str, Any], key: str, faults: list[Fault]) -> bool:
    value = content.get(key)
    if value is not None and not isinstance(value, bool):
        faults.append(Fault(f"{MANIFEST}: {key}", f"true or false is needed, not {value!r:.80}"))
    return value is True


def _check_storable(value: Any, field: str, faults: list[Fault]) -> None:
    """Notes the first thing that no database's JSON holds."""
    if isinstance(value, dict | list):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        for item in inner:  # plain_yaml has bounded the depth
            if len(faults):
                return
            _check_storable(item, field, faults)
    elif isinstance(value, str) and any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value):
        faults.append(Fault(field, f"the text {value!r:.60} has a NUL or half a character in it"))
    elif isinstance(value, float) and not math.isfinite(value):
        faults.append(Fault(field, f"{value} is no finite number"))
    elif isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        faults.append(Fault(field, "a number has more than 64 bits"))
