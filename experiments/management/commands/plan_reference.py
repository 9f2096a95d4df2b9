"""`manage.py plan_reference`: writes the tables of plan keys in docs/plans.md from the models of a plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from experiments.plans.fields import MAX_INTEGER
from experiments.plans.parsing import json_schema
from experiments.plans.plan import Plan
from experiments.plans.workload import Workload

DOCUMENT = "docs/plans.md"
_ROOT = Path(__file__).parents[3]
# The sections of a plan whose keys stand in the plan's table with a prefix.
SECTIONS = ("experiment", "configuration")
_TABLE = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)
_KINDS = {"boolean": "`true` or `false`", "object": "mapping", "integer": "whole number", "number": "number"}


class Command(BaseCommand):
    help = f"Writes the tables of plan keys in {DOCUMENT} from the models that define the keys."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--check", action="store_true", help="write nothing; exit with 1 when the document differs from the models"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path = _ROOT / DOCUMENT
        text = path.read_text()
        tables = {"plan": _table(_plan_rows()), "workload": _table(_rows(json_schema(Workload)))}
        made = _TABLE.sub(lambda found: found[1] + tables[found[2]] + found[3], text)
        if options["check"] and made != text:
            raise CommandError(f"{DOCUMENT} differs from the models of a plan: run manage.py plan_reference")
        if not options["check"]:
            path.write_text(made)


def _plan_rows() -> Iterator[tuple[str, str, str, str]]:
    schema = json_schema(Plan)
    for name in SECTIONS:
        section = schema["properties"].pop(name)
        yield from _rows(section if "properties" in section else section["anyOf"][0], f"{name}.")
    yield from _rows(schema)


def _rows(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Key, values, meaning and default of each property, in the order of the model's fields."""
    for key, part in schema["properties"].items():
        default = "required" if key in schema.get("required", ()) else _default(part.get("default"))
        yield f"`{prefix}{key}`", _values(part), part["description"], default


def _default(value: Any) -> str:
    if value in (None, ""):
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _table(rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = ["| key | values | meaning | default |", "| --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _values(part: dict[str, Any]) -> str:
    """The accepted values of a part of a JSON schema, in words; null, which stands for an absent key, is left out."""
    return " or ".join(dict.fromkeys(_each_value(part)))


def _each_value(part: dict[str, Any]) -> Iterator[str]:
    for option in part.get("anyOf", []):
        yield from _each_value(option)
    kind = part.get("type")
    if "enum" in part:
        yield ", ".join(f"`{value}`" for value in part["enum"]) if len(part["enum"]) < 8 else "one of several names"
    elif "const" in part:
        yield f"`{part['const']}`"
    elif kind == "array":
        yield "list"
    elif part.get("format") == "duration":
        yield "duration like `500ms` or `1h30m`"
    elif kind == "string":
        yield "string"
    elif kind in _KINDS:
        bounds = [
            f"{part[bound]:,.10g}" for bound in ("minimum", "maximum") if part.get(bound, MAX_INTEGER) < MAX_INTEGER
        ]
        yield f"{_KINDS[kind]} {'from ' * (len(bounds) == 1)}{' to '.join(bounds)}".strip()
