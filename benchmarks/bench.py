"""Bench: cores, targets, stacks and durations for the lines of the table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cores import Cores
from benchmarks.figures import Figure, Sample
from benchmarks.stack import BenchStack
from benchmarks.target import Target


@dataclass(frozen=True)
class Bench:
    """The parts that a line is measured with; `say` prints progress."""

    cores: Cores
    quick: bool
    say: Callable[[str], None]

    def seconds(self, full: float, quick: float) -> float:
        """Returns a duration of this run."""
        return quick if self.quick else full

    @contextmanager
    def target(self) -> Iterator[Target]:
        """Runs nginx until the context ends."""
        with tempfile.TemporaryDirectory(prefix="galileo-bench-nginx-") as folder:
            (own := Path(folder) / "nginx").mkdir()
            with Target(own) as target:
                yield target

    def stack(self, **variables: str) -> BenchStack:
        """Returns a new Galileo; `variables` are further environment variables."""
        return BenchStack(self.cores, **variables)


Measure = Callable[[], Sample]


@dataclass(frozen=True)
class Line:
    """A line of the table; `measuring` sets up the measurement, and yields a function that measures one round."""

    name: str
    figures: tuple[Figure, ...]
    measuring: Callable[[Bench], AbstractContextManager[Measure]]
