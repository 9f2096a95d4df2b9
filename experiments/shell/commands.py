"""The shell's commands: objects that do what they are for when they are shown, so that no parentheses are needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from experiments.shell.text import USAGE


class Command:
    """`name` at the prompt, and `name()` anywhere, print a text."""

    def __init__(self, text: Callable[[], str], doc: str) -> None:
        self._text = text
        self.__doc__ = doc

    def __call__(self) -> None:
        print(self._text(), end="")  # noqa: T201

    def __repr__(self) -> str:
        return self._text().rstrip("\n")


def _environment() -> str:
    return "".join(f"{name}={value}\n" for name, value in sorted(os.environ.items()))


usage = Command(lambda: USAGE, "Shows what the shell offers.")
env = Command(_environment, "Shows the environment variables.")
pwd = Command(lambda: f"{Path.cwd()}\n", "Shows the current working directory.")
