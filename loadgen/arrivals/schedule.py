"""A rate schedule and its integral: pure arithmetic, no clock.

Times are nanoseconds since the start of the load. Λ(t) is the number of arrivals planned before t (a float); its
inverse gives the time of the n-th arrival. Double precision suffices for both: 2**53 ns are 104 days.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple


class Step(NamedTuple):
    """A step with a rate above 0. Arrival n, first <= n < end, is at int(origin_ns + (n - first) * ns_per_arrival)."""

    first: float  # Λ where it starts
    end: float  # Λ where it ends
    origin_ns: float  # where it starts in time, plus the half that makes `int` round to the nearest ns
    ns_per_arrival: float


class Schedule:
    """A step function of rates.

    Args:
        steps: pairs (duration in ns > 0, rate in requests per second >= 0), in order.

    The attribute `steps` has the steps with arrivals: each begins in Λ where the previous one ends.
    """

    def __init__(self, steps: Sequence[tuple[int, float]]) -> None:
        if not steps:
            raise ValueError("a schedule needs at least one step")
        self.steps: list[Step] = []
        now, total = 0, 0.0
        for duration_ns, rate_rps in steps:
            if duration_ns <= 0 or not 0 <= rate_rps < float("inf"):
                raise ValueError(
                    f"a step must have a duration > 0 and a finite rate >= 0, got {(duration_ns, rate_rps)!r}"
                )
            end = total + duration_ns * rate_rps / 1e9
            if end > total:
                self.steps.append(Step(total, end, now + 0.5, duration_ns / (end - total)))
            now, total = now + duration_ns, end
        self.duration_ns = now
        self.total = total
        self._firsts = [step.first for step in self.steps]
        self._origins_ns = [step.origin_ns for step in self.steps]

    def arrivals_before(self, time_ns: int) -> float:
        """Returns Λ(time_ns): arrivals planned in [0, time_ns)."""
        if time_ns >= self.duration_ns:
            return self.total
        index = bisect_right(self._origins_ns, time_ns + 0.5) - 1
        if index < 0:
            return 0.0
        step = self.steps[index]
        return min(step.end, step.first + (time_ns + 0.5 - step.origin_ns) / step.ns_per_arrival)

    def time_of(self, arrivals: float) -> int | None:
        """Returns Λ⁻¹(arrivals), rounded to a whole ns; None at or after the schedule's end."""
        if arrivals >= self.total:
            return None
        step = self.steps[bisect_right(self._firsts, arrivals) - 1]
        return int(step.origin_ns + (arrivals - step.first) * step.ns_per_arrival)
