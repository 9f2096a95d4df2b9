"""Cores: one for the generator of load and one for its target, so that they do not compete."""

from __future__ import annotations

import os
from dataclasses import dataclass


class TooFewCores(Exception):
    """This process may use one core only."""


@dataclass(frozen=True)
class Cores:
    """The first core that this process may use is the generator's; the second one has the target and all else."""

    generator: int
    target: int

    @property
    def generating(self) -> list[str]:
        """The prefix of a command that runs on the generator's core."""
        return ["taskset", "-c", str(self.generator)]

    @property
    def in_background(self) -> list[str]:
        """The prefix of a command that runs on the target's core, in its idle time."""
        return ["chrt", "--idle", "0", "taskset", "-c", str(self.target)]


def choose() -> Cores:
    """Returns the two cores. Raises TooFewCores."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise TooFewCores("a benchmark must have two cores, one for the generator and one for the target")
    return Cores(cores[0], cores[1])


def stay_on(core: int) -> None:
    """Binds this process, and its children from now on, to one core."""
    os.sched_setaffinity(0, {core})
