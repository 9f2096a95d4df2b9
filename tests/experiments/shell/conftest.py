"""What the tests of the shell share."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

import pytest

_PR_SET_DUMPABLE = 4  # of prctl(2)


@pytest.fixture(autouse=True)
def dumpable_again() -> Iterator[None]:
    """The process of the tests, which is the shell in them, is dumpable again: later tests may read its /proc."""
    yield
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
