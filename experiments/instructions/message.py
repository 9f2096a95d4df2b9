"""Instruction: a script and the name of its experiment, read from a message of the queue."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from experiments.plans import PlanInvalid
from experiments.plans.fields import Reason, Text, checked, scalar_reason
from experiments.plans.parsing import Context, Section
from experiments.plans.parsing import read as read_section
from experiments.plans.plan import ExperimentId
from routing.errors import Code, FieldError, shown

MAX_BYTES = 1 << 20


class UnreadableInstruction(ValueError):
    """Not even the id that the message asks for can be read; the text gives the reason."""


@dataclass(frozen=True)
class Instruction:
    """A script and the name of its experiment; `errors` are those of the message, not of the script.

    `experiment_id` is a permitted one, or None where there is none, or a wrong one.
    """

    script: str
    experiment_id: str | None
    name: str
    creator: str
    errors: list[FieldError]


def _script_reason(value: object) -> Reason | None:
    if not isinstance(value, str):
        return Code.TYPE, f"must be the text of a script, got {shown(value)}"
    return scalar_reason(value)


class _Message(Section):
    instructions: Annotated[str, checked(_script_reason)]
    exp_id: ExperimentId | None = None
    name: Text | None = None
    creator: Text | None = None


def read(pushed: bytes) -> Instruction:
    """Raises UnreadableInstruction for a message that is too large, not valid JSON, or not a mapping."""
    if len(pushed) > MAX_BYTES:
        raise UnreadableInstruction(f"it must have at most {MAX_BYTES:,} bytes, got {len(pushed):,}")
    try:
        data = json.loads(pushed.decode())
    except (ValueError, RecursionError) as error:
        raise UnreadableInstruction(f"it is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise UnreadableInstruction(f'it must be a mapping like {{"instructions": "spawn …"}}, got {shown(data)}')
    context, errors = Context(), []
    try:
        read_section(_Message, data, context)
    except PlanInvalid as invalid:
        errors = invalid.errors
    (found,) = context.parts_of(_Message)  # with defaults for wrong values
    return Instruction(found.instructions or "", found.exp_id, found.name or "", found.creator or "", errors)
