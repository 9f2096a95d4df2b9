"""The search for the highest rate that a generator keeps."""

from __future__ import annotations

from collections.abc import Callable

_GROWTH = 1.5
_CLOSE_ENOUGH = 1.04
_FAILURES_THAT_COUNT = 3


def highest(keeps: Callable[[float], bool], first: float, tries: int) -> float:
    """The highest rate found for which `keeps` is true; 0 when none was.

    Raises or lowers `first` by half until it has a rate that is kept and one that is not, then halves the distance on
    a logarithmic scale until the two lie within 4 %, with at most `tries` calls. A rate counts as not kept when three
    tries in a row say so: a kernel that took the generator's core away for a moment must not decide. It may still cost
    accuracy, but the answer is a kept rate.
    """
    kept, unkept = 0.0, float("inf")
    rate = first
    failures = 0
    for _ in range(tries):
        if keeps(rate):
            kept, failures = rate, 0
        elif failures < _FAILURES_THAT_COUNT - 1:
            failures += 1
            continue
        else:
            unkept, failures = rate, 0
        if unkept <= kept * _CLOSE_ENOUGH:
            break
        if kept == 0:
            rate = unkept / _GROWTH
        elif unkept == float("inf"):
            rate = kept * _GROWTH
        else:
            rate = (kept * unkept) ** 0.5
    return kept
