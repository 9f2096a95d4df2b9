"""Interruption: a signal as a flag that waiting loops check, so that no signal can stop a step halfway."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# One Ctrl-C may arrive twice: from the terminal and from the parent process.
SAME_REQUEST_S = 1.0
_STEP_S = 0.05


class Interrupted(Exception):
    """A signal has arrived that ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number  # as shells count it: 130 for Ctrl-C, 143 for SIGTERM


class Interruption:
    """Remembers the first of `signals`; one well after it sets `hurry`. As a context manager, it handles them."""

    def __init__(self, *signals: int) -> None:
        self.number: int | None = None
        self.hurry = False
        self._first_at_s = 0.0
        self._signals = signals or SIGNALS
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self.arrive) for number in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def arrive(self, number: int, _frame: FrameType | None = None) -> None:
        """Sets the flag, without a lock, because it runs between any two steps of the main thread."""
        if self.number is None:
            self.number = number
            self._first_at_s = time.monotonic()
        elif time.monotonic() - self._first_at_s > SAME_REQUEST_S:
            self.hurry = True

    @property
    def name(self) -> str:
        """The name of the first signal, or ''."""
        return "" if self.number is None else signal.Signals(self.number).name

    def check(self) -> None:
        """Raises Interrupted once a signal has arrived."""
        if self.number is not None:
            raise Interrupted(self.number)

    def wait(self, seconds: float) -> None:
        """Sleeps in short steps. Raises Interrupted once a signal has arrived."""
        end_at_s = time.monotonic() + seconds
        self.check()
        while (left_s := end_at_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _STEP_S))
            self.check()
