"""The table's arithmetic: figures with their limits, samples of several rounds, and verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True)
class Bound:
    """A value must be at least `limit` if more is better, and below it otherwise."""

    limit: float
    more_is_better: bool

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.more_is_better else value < self.limit


def at_least(limit: float) -> Bound:
    return Bound(limit, more_is_better=True)


def below(limit: float) -> Bound:
    return Bound(limit, more_is_better=False)


@dataclass(frozen=True)
class Figure:
    """A quantity that a line measures; without a bound it is only shown."""

    what: str
    unit: str
    must: Bound | None = None
    aim: Bound | None = None


@dataclass(frozen=True)
class Sample:
    """The figures of one round.

    Attributes:
        values: of the line's figures, in their order.
        background: amounts behind the values, by a name that ends in the unit, such as "wrk, requests/s".
    """

    values: Sequence[float]
    background: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.values)):
            raise ValueError(f"values: must be finite numbers, got {self.values}")


class Verdict(Enum):
    AIM = "reaches the aim"
    HOLDS = "holds"
    MISSED = "MISSED"
    NONE = "in the table"
    NOT_MEASURED = "NOT MEASURED"

    @property
    def fails(self) -> bool:
        return self in (Verdict.MISSED, Verdict.NOT_MEASURED)


@dataclass(frozen=True)
class Spread:
    """The samples of one quantity over the rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        listed = list(values)
        return cls(statistics.median(listed), min(listed), max(listed))


def judge(figure: Figure, median: float) -> Verdict:
    """Returns the verdict on a figure, whose median over the rounds is compared with its limits."""
    if figure.must is not None and not figure.must.holds(median):
        return Verdict.MISSED
    if figure.aim is not None and figure.aim.holds(median):
        return Verdict.AIM
    return Verdict.NONE if figure.must is None else Verdict.HOLDS


def held_in(figure: Figure, values: Iterable[float]) -> int | None:
    """Returns the number of rounds in which the figure was within its limit; None without a limit."""
    return None if figure.must is None else sum(map(figure.must.holds, values))
