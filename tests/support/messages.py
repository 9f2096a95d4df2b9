"""The wording of public messages is pinned in snapshot files; all other tests assert an error's path and code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REWRITE = "GALILEO_REWRITE_MESSAGES"


def check_snapshot(file: Path, messages: Mapping[str, Any]) -> None:
    """Compares the messages, by case, with a JSON file; GALILEO_REWRITE_MESSAGES=1 writes the file instead."""
    if os.environ.get(REWRITE):
        file.write_text(json.dumps(messages, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    assert messages == json.loads(file.read_text()), f"run the test with {REWRITE}=1 where the wording is to change"


def errors_of(answer: Any) -> list[tuple[str, str]]:
    """Path and code of each error of a problem document."""
    return [(error["field"], error["code"]) for error in answer.json()["errors"]]
