"""Exceptions that end a command of the stack."""

from __future__ import annotations

import signal


class StackError(Exception):
    """A command failed; the message is one sentence for the user, and log lines may follow it."""


class Interrupted(Exception):
    """A signal has arrived that ends the command."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def exit_status(self) -> int:
        """As shells count it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number
