"""Manifest: the `manifest.yml` of a client app."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from loadgen.apps import parameters
from loadgen.apps.errors import AppInvalid
from loadgen.apps.parameters import Parameter
from loadgen.protocol import plain_yaml
from loadgen.protocol.enums import CookieMode
from loadgen.protocol.settings import NAME_PATTERN
from routing.errors import Code, ErrorCollector, FieldError, shown

MANIFEST: Final = "manifest.yml"
MAX_MANIFEST_BYTES: Final = 64 << 10
MAX_VERSION: Final = 100
MAX_DESCRIPTION: Final = 4000
_MAX_INTEGER: Final = 2**63


@dataclass(frozen=True)
class Manifest:
    """The description of an app.

    Attributes:
        parameters: the declared parameters by name; None for an app that declares none and accepts any.
        shared: whether one execution serves all clients of a shard.
        cookies: whether clients keep cookies, for workloads that do not set it; None: it is not set here either.
        content: the whole file, unknown keys included, as the app itself gets it.
    """

    name: str
    version: str = ""
    description: str = ""
    parameters: dict[str, Parameter] | None = None
    shared: bool = False
    cookies: CookieMode | None = None
    content: dict[str, Any] = field(default_factory=dict)


def read_manifest(text: bytes, name: str = "") -> Manifest:
    """Returns the manifest in the bytes of its file.

    Args:
        name: the app's name if the manifest has none; "" if the manifest must have one.

    Raises:
        AppInvalid: with every error.
    """
    try:
        content = plain_yaml.load(text, MAX_MANIFEST_BYTES)
    except plain_yaml.YamlInvalid as error:
        raise AppInvalid([FieldError(MANIFEST, Code.UNREADABLE, str(error))]) from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise AppInvalid([FieldError(MANIFEST, Code.TYPE, f"must hold a mapping, got a {type(content).__name__}")])
    errors = ErrorCollector()
    _check_storable(content, MANIFEST, errors)
    declared = content.get("parameters")
    manifest = Manifest(
        name=_read_name(content, name, errors),
        version=_read_text(content, "version", MAX_VERSION, errors),
        description=_read_text(content, "description", MAX_DESCRIPTION, errors),
        parameters=None if declared is None else parameters.read(declared, f"{MANIFEST}: parameters", errors),
        shared=_read_flag(content, "shared", errors),
        cookies=_read_cookies(content, errors),
        content=content,
    )
    errors.raise_if_any(AppInvalid)
    return manifest


def declared_parameters(content: dict[str, Any]) -> dict[str, Parameter] | None:
    """Returns the parameters that a checked manifest declares; None if it declares none."""
    declared = content.get("parameters")
    return None if declared is None else parameters.read(declared, "", ErrorCollector())


def _read_name(content: dict[str, Any], name: str, errors: ErrorCollector) -> str:
    value = content.get("name")
    if value is None and name:
        return name
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        if value is None:
            errors.add(f"{MANIFEST}: name", Code.REQUIRED, "is missing: the manifest must name the app")
        else:
            rule = "must have at most 63 letters, digits, '.', '_' and '-', a letter or digit first"
            errors.add(f"{MANIFEST}: name", Code.FORMAT, f"{rule}, got {value!r:.80}")
        return name
    return value


def _read_text(content: dict[str, Any], key: str, most: int, errors: ErrorCollector) -> str:
    value = content.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or len(str(value)) > most:
        errors.add(f"{MANIFEST}: {key}", Code.FORMAT, f"must be a string of at most {most} characters")
        return ""
    return str(value).strip()


def _read_flag(content: dict[str, Any], key: str, errors: ErrorCollector) -> bool:
    value = content.get(key)
    if value is not None and not isinstance(value, bool):
        errors.add(f"{MANIFEST}: {key}", Code.TYPE, f"must be true or false, got {value!r:.80}")
    return value is True


def _read_cookies(content: dict[str, Any], errors: ErrorCollector) -> CookieMode | None:
    value = content.get("cookies")
    if value is None or value in list(CookieMode):
        return None if value is None else CookieMode(value)
    errors.add(f"{MANIFEST}: cookies", Code.CHOICE, f"must be 'ignore' or 'keep', got {shown(value)}")
    return None


def _check_storable(value: Any, field: str, errors: ErrorCollector) -> None:
    """Adds an error for the first value that a JSON column of some database cannot store."""
    if isinstance(value, dict | list):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        for item in inner:  # plain_yaml has bounded the depth
            if len(errors):
                return
            _check_storable(item, field, errors)
    elif isinstance(value, str) and any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value):
        errors.add(field, Code.FORMAT, f"must not contain NUL or lone surrogates, got {value!r:.60}")
    elif isinstance(value, float) and not math.isfinite(value):
        errors.add(field, Code.RANGE, f"must hold finite numbers, got {value}")
    elif isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        errors.add(field, Code.RANGE, "must hold numbers of at most 64 bits")
