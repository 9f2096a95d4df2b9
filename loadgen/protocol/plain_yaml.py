"""Bytes of a YAML file → plain data: YAML's core schema, without what makes YAML dangerous or surprising.

The data is built from the parser's events, not by PyYAML's composer: that way anchors, aliases, tags, duplicate keys
and depth are refused before anything is built. Plain scalars follow YAML 1.2 (`on` and `2026-11-22` are strings,
`010` is ten, `1e3` is a number), because those of YAML 1.1 turn labels into booleans and names into dates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

MAX_DEPTH = 32
_MAX_DIGITS = 1000  # of a whole number; a longer one is infinite as a float anyway

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

# libyaml is a hundred times as fast; not every wheel has it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlInvalid(ValueError):
    """The bytes are not accepted as YAML; the message has the place and the reason."""


def load(text: bytes, most_bytes: int) -> Any:
    """The plain data of the one document in a file; None if it is empty.

    Raises:
        YamlInvalid: the file is too large, not UTF-8 text, not YAML, uses anchors, tags or several documents, repeats a
            key, or nests too deeply.
    """
    if len(text) > most_bytes:
        raise YamlInvalid(f"the file has {len(text)} bytes; at most {most_bytes} are accepted")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlInvalid(f"the file is not valid UTF-8 (byte {error.start} is {text[error.start]:#04x})") from error
    if "\0" in decoded:
        raise YamlInvalid("the file is binary, not text")
    try:
        return _build(yaml.parse(decoded, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, decoded) from error
    except yaml.YAMLError as error:  # characters that no YAML may contain
        raise YamlInvalid(f"the file is not valid YAML: {' '.join(str(error).split())}") from error


def _invalid(message: str, mark: Any = None) -> YamlInvalid:
    place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return YamlInvalid(place + message)


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> YamlInvalid:
    mark = error.problem_mark or error.context_mark
    reason = " ".join(part for part in (error.context, error.problem) if part) or "unreadable"
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines):
        line = lines[mark.line]
        if "\t" in line[: len(line) - len(line.lstrip())]:
            reason += " (there is a tab in the indentation; indent with spaces)"
    return _invalid(f"not valid YAML: {reason}", mark)


class _Node:
    """A mapping or list under construction."""

    def __init__(self, value: dict[str, Any] | list[Any]) -> None:
        self.value = value
        self.key: str | None = None  # of a mapping: the key whose value comes next

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.value, dict)

    def add(self, value: Any, mark: Any) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key is None:
            if not isinstance(value, str):
                raise _invalid("a key must be a string, not a list or a mapping", mark)
            if value in self.value:
                raise _invalid(f"the key {value[:80]!r} occurs twice", mark)
            self.key = value
        else:
            self.value[self.key] = value
            self.key = None


def _build(events: Iterator[Any]) -> Any:
    """The data of the one document in a stream of events; None for an empty stream."""
    root = _Node([])
    stack = [root]
    documents = 0
    for event in events:
        mark = event.start_mark
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _invalid("there is a second document; one per file", mark)
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _invalid("anchors and aliases (& and *) are not accepted; write the value out", mark)
        elif isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
            stack[-1].add(event.value if stack[-1].wants_key else value, mark)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if event.tag is not None:
                raise _invalid(f"the tag {event.tag[:80]} is not accepted", mark)
            if len(stack) > MAX_DEPTH:
                raise _invalid(f"lists and mappings are nested more than {MAX_DEPTH} deep", mark)
            mapping: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            stack[-1].add(mapping, mark)
            stack.append(_Node(mapping))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            stack.pop()
    assert isinstance(root.value, list)
    return root.value[0] if root.value else None


def _scalar(event: yaml.ScalarEvent) -> Any:
    text = event.value
    if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
        raise _invalid(f"the tag {event.tag[:80]} is not accepted", event.start_mark)
    if not event.implicit[0]:  # quoted, a block, or tagged: always a text
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if len(text) <= _MAX_DIGITS and _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL_FLOAT.fullmatch(text):
        return float(text.replace(".", "").lower())
    return text
