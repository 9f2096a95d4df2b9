"""The shell's banner and its commands: objects that print when they are shown, so that no parentheses are needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Both texts are the original's.
BANNER = r"""
   ____       _ _ _
  / ___| __ _| (_) | ___  ___
 | |  _ / _` | | | |/ _ \/ _ \
 | |_| | (_| | | | |  __/ (_) |
  \____|\__,_|_|_|_|\___|\___/

Welcome to the galileo shell!
Type `usage` to list available functions
"""

USAGE = """\
the galileo shell is an interactive python shell that provides the following commands

Commands:
  usage         show this message
  env           show environment variables
  pwd           show the current working directory

Functions:
  sleep         time.sleep wrapper

Objects:
  g             Galileo object that allows you to interact with the system
  show          Prints runtime information about the system to system out
  exp           Galileo experiment
  rtbl          Service routing table
  telemd        Telemd object to pause, unpause and list registered telemd daemons

Type help(<function>) or help(<object>) to learn how to use the functions.
"""


class Command:
    """Prints a text for `name` at the prompt, and for `name()` anywhere."""

    def __init__(self, text: Callable[[], str], doc: str) -> None:
        self._text = text
        self.__doc__ = doc

    def __call__(self) -> None:
        print(self._text(), end="")  # noqa: T201

    def __repr__(self) -> str:
        return self._text().rstrip("\n")


def _environment() -> str:
    return "".join(f"{name}={value}\n" for name, value in sorted(os.environ.items()))


usage = Command(lambda: USAGE, "Shows the commands, functions and objects of the shell.")
env = Command(_environment, "Shows the environment variables.")
pwd = Command(lambda: f"{Path.cwd()}\n", "Shows the current working directory.")
