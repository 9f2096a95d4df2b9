"""A rate schedule and its integral: pure arithmetic, no clock.

Times are nanoseconds since the start of the load. Λ(t) is the number of arrivals planned before t (a float); its
inverse gives the time of the n-th arrival. Double precision holds both exactly enough: 2**53 ns are 104 days.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


class Schedule:
    """A step function of rates.

    Args:
        steps: pairs (duration in ns > 0, rate in requests per second >= 0), in order.
    """

    def __init__(self, steps: Sequence[tuple[int, float]]) -> None:
        if not steps:
            raise ValueError("a schedule needs at least one step")
        self._starts_ns: list[int] = []
        self._rates_per_ns: list[float] = []
        self._cumulative: list[float] = []  # Λ at each step's start
        now, total = 0, 0.0
        for duration_ns, rate_rps in steps:
            if duration_ns <= 0 or not 0 <= rate_rps < float("inf"):
                raise ValueError(f"a step needs a duration > 0 and a finite rate >= 0, not {(duration_ns, rate_rps)!r}")
            self._starts_ns.append(now)
            self._rates_per_ns.append(rate_rps / 1e9)
            self._cumulative.append(total)
            now += duration_ns
            total += duration_ns * rate_rps / 1e9
        self.duration_ns = now
        self.total = total

    def arrivals_before(self, time_ns: int) -> float:
        """Λ(time_ns): arrivals planned in [0, time_ns)."""
        if time_ns <= 0:
            return 0.0
        if time_ns >= self.duration_ns:
            return self.total
        step = bisect_right(self._starts_ns, time_ns) - 1
        return self._cumulative[step] + (time_ns - self._starts_ns[step]) * self._rates_per_ns[step]

    def time_of(self, arrivals: float) -> int | None:
        """Λ⁻¹(arrivals), rounded to a whole ns; None at or after the schedule's end."""
        if arrivals >= self.total:
            return None
        # The last step that starts at or below `arrivals`: steps of rate 0 are passed over by bisect_right.
        step = bisect_right(self._cumulative, arrivals) - 1
        return self._starts_ns[step] + round((arrivals - self._cumulative[step]) / self._rates_per_ns[step])
