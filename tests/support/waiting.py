"""Waiting for something to become true."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    """Waits until `condition` holds; AssertionError that says what was waited for."""
    end_at_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_at_s:
            raise AssertionError(f"waited {within_s:g} s for {what}")
        time.sleep(0.05)
