"""Which core generates load and which answers it; the two are told apart so that neither takes from the other."""

from __future__ import annotations

import os
from dataclasses import dataclass


class TooFewCores(Exception):
    """This process may use one core only."""


@dataclass(frozen=True)
class Cores:
    """The first core that this process may use generates; the second one has the target and all else."""

    generator: int
    target: int

    @property
    def generating(self) -> list[str]:
        """Stands before a command that is to run on the generator's core."""
        return ["taskset", "-c", str(self.generator)]

    @property
    def in_background(self) -> list[str]:
        """Stands before a command that is to take what the target leaves of its core."""
        return ["chrt", "--idle", "0", "taskset", "-c", str(self.target)]


def choose() -> Cores:
    """The two cores.

    Raises:
        TooFewCores
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise TooFewCores("a benchmark needs two cores, one for the generator and one for the target")
    return Cores(cores[0], cores[1])


def stay_on(core: int) -> None:
    """This process, and what it starts from now on, runs on one core."""
    os.sched_setaffinity(0, {core})
