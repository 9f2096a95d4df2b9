"""The bytes of a plan file → plain data (loadgen/protocol/plain_yaml.py)."""

from __future__ import annotations

from typing import Any

from experiments.plans.errors import PlanError, PlanInvalid
from loadgen.protocol import plain_yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = plain_yaml.MAX_DEPTH


def load_yaml(text: bytes) -> dict[str, Any]:
    """The plain data of a plan file.

    Raises:
        PlanInvalid: the file is empty, too large, no YAML that we read, or no mapping.
    """
    try:
        data = plain_yaml.load(text, MAX_BYTES)
    except plain_yaml.YamlInvalid as error:
        raise _invalid(str(error)) from error
    if data is None:
        raise _invalid("the file is empty; a mapping with `configuration` is needed")
    if not isinstance(data, dict):
        raise _invalid("a mapping with `configuration` is needed at the top")
    return data


def _invalid(message: str) -> PlanInvalid:
    return PlanInvalid([PlanError("plan", message)])
