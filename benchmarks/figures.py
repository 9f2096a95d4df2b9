"""The table's arithmetic: figures with what they must reach, samples of several rounds, and what these amount to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True)
class Bound:
    """At least `limit` where more is better, below it where less is."""

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
    """One thing that a line measures. `unit` stands behind each number; without a bound, nothing is asked of it."""

    what: str
    unit: str
    must: Bound | None = None
    aim: Bound | None = None


@dataclass(frozen=True)
class Sample:
    """The figures of one round.

    Attributes:
        values: of the line's figures, in their order.
        background: amounts that the values came from, by a name that ends in its unit, such as "wrk, requests/s".
    """

    values: Sequence[float]
    background: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.values)):
            raise ValueError(f"a measured value is a finite number, not one of {self.values}")


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
    """The result of comparing the median of a figure over the rounds with its limits."""
    if figure.must is not None and not figure.must.holds(median):
        return Verdict.MISSED
    if figure.aim is not None and figure.aim.holds(median):
        return Verdict.AIM
    return Verdict.NONE if figure.must is None else Verdict.HOLDS


def held_in(figure: Figure, values: Iterable[float]) -> int | None:
    """In how many rounds the figure was what it must be; None where nothing is asked of it."""
    return None if figure.must is None else sum(map(figure.must.holds, values))
