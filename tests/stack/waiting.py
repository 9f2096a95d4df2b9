"""Waits for other processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true"
        time.sleep(0.02)
