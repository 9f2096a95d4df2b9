"""Signals as a flag that a waiting loop looks at: nothing is torn apart half-done, and waiting ends at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# One Ctrl-C may arrive twice: from the terminal, and from the parent process.
SAME_REQUEST_S = 1.0


class Interrupted(Exception):
    """A signal asked us to stop."""


class Interruption:
    """A context manager that takes the signals over. The first asks to stop, one well after it to hurry."""

    def __init__(self) -> None:
        self.name = ""  # of the first signal
        self.hurry = False
        self._first_at_s = 0.0
        self._arrived = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self.name:
            self.name = signal.Signals(number).name
            self._first_at_s = time.monotonic()
            self._arrived.set()
        elif time.monotonic() - self._first_at_s > SAME_REQUEST_S:
            self.hurry = True

    def wait(self, seconds: float) -> None:
        """Raises Interrupted as soon as a signal has arrived."""
        if self._arrived.wait(seconds):
            raise Interrupted(self.name)
