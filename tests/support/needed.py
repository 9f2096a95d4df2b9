"""Programs that a test needs and pip does not bring."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def need(program: str, package: str) -> Path:
    """The program's path. Where it is missing, the test is skipped; in CI, which installs it, the test fails."""
    path = Path(program)
    if not path.exists():
        reason = f"there is no {path}: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path
