"""Signals as a flag that waiting loops look at, so that no signal can tear a half-done step apart."""

from __future__ import annotations

import signal
import time
from types import FrameType

from galileo_site.stack.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# One Ctrl-C may arrive twice: from the terminal, and from make.
_SAME_REQUEST_S = 1.0


class Interrupts:
    """Remembers the first signal; a later one means hurry."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.hurry = False
        self._first_at_s = 0.0

    def install(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            self._first_at_s = time.monotonic()
        elif time.monotonic() - self._first_at_s > _SAME_REQUEST_S:
            self.hurry = True

    def check(self) -> None:
        """Raises Interrupted once a signal has arrived."""
        if self.received is not None:
            raise Interrupted(self.received)

    def sleep(self, seconds: float) -> None:
        """Sleeps in short steps. Raises Interrupted."""
        end_s = time.monotonic() + seconds
        while True:
            self.check()
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, 0.05))
