"""What was pushed into the queue → an instruction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from experiments.plans.errors import PlanError, Problems
from experiments.plans.fields import Section, check_json, shown
from experiments.plans.ids import read_id

MAX_BYTES = 1 << 20


class UnreadableInstruction(ValueError):
    """Not even the id that it asks for can be told; the message says why."""


@dataclass(frozen=True)
class Instruction:
    """A script and what its experiment is to be called; `errors` says what is wrong beside the script.

    `experiment_id` is a permitted one, or None: none was asked for, or a wrong one.
    """

    script: str
    experiment_id: str | None
    name: str
    creator: str
    errors: list[PlanError]


def read(pushed: bytes) -> Instruction:
    """Raises UnreadableInstruction for what is too large, no JSON, or no mapping."""
    if len(pushed) > MAX_BYTES:
        raise UnreadableInstruction(f"it has more than {MAX_BYTES:,} bytes, which is the most that is accepted")
    try:
        data = json.loads(pushed.decode())
    except (ValueError, RecursionError) as error:
        raise UnreadableInstruction(f"it is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise UnreadableInstruction(f'a mapping like {{"instructions": "spawn …"}} is needed, not {shown(data)}')
    section = Section(data, "", Problems())
    script, experiment_id = _read_script(section), read_id(section, "exp_id")
    name, creator = section.text("name", ""), section.text("creator", "")
    section.close()
    return Instruction(script, experiment_id, name, creator, section.problems.errors)


def _read_script(section: Section) -> str:
    value: Any = section.get("instructions", required=True)
    if value is None:
        return ""
    if not isinstance(value, str):
        section.wrong("instructions", f"the text of a script is needed, not {shown(value)}")
        return ""
    return value if check_json(value, section.at("instructions"), section.problems) else ""
