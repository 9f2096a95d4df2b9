"""What ends a command of the stack."""

from __future__ import annotations

import signal


class StackError(Exception):
    """The stack cannot do what was asked; the message is one sentence for the user, log lines may follow it."""


class Interrupted(Exception):
    """A signal asked us to stop."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def exit_status(self) -> int:
        """As shells count it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number
