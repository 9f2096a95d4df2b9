"""The intervals of a plan: equal ones, of which the last may be shorter, or a list of durations."""

from __future__ import annotations

from experiments.plans.fields import MAX_DURATION_S, Section

NS = 1_000_000_000
MAX_INTERVALS = 100_000
MAX_LISTED = 10_000


def read_intervals(section: Section) -> list[int]:
    """How long each interval lasts, in ns, from `duration` and `interval`; [] when these are missing or wrong."""
    duration_ns = section.duration_ns("duration")
    listed = section.get("interval")
    if isinstance(listed, list | tuple):
        return _read_listed(section, listed, duration_ns)
    interval_ns = section.duration_ns("interval")
    if duration_ns is None or interval_ns is None:
        return []
    whole, rest_ns = divmod(duration_ns, interval_ns)
    intervals = whole + bool(rest_ns)
    if intervals > MAX_INTERVALS:
        section.wrong("interval", f"divides the duration into {intervals} intervals; at most {MAX_INTERVALS}")
        return []
    return [interval_ns] * whole + ([rest_ns] if rest_ns else [])


def _read_listed(section: Section, listed: list[object] | tuple[object, ...], duration_ns: int | None) -> list[int]:
    if not 0 < len(listed) <= MAX_LISTED:
        section.wrong("interval", f"a list of 1 to {MAX_LISTED:,} durations is accepted, not of {len(listed):,}")
        return []
    durations_s = [section.seconds(f"interval[{index}]", item, MAX_DURATION_S) for index, item in enumerate(listed)]
    intervals_ns = [round(duration_s * NS) for duration_s in durations_s if duration_s is not None]
    if duration_ns is None or len(intervals_ns) < len(listed):
        return []
    if sum(intervals_ns) != duration_ns:
        section.wrong(
            "interval",
            f"the intervals last {sum(intervals_ns) / NS:g} s together, the duration is {duration_ns / NS:g} s",
        )
        return []
    return intervals_ns


def in_plan(intervals_ns: list[int]) -> float | list[float]:
    """The value of `interval`: one number where the intervals are equal but for a shorter last one."""
    first_ns, last_ns = intervals_ns[0], intervals_ns[-1]
    if last_ns <= first_ns and all(interval_ns == first_ns for interval_ns in intervals_ns[:-1]):
        return first_ns / NS
    return [interval_ns / NS for interval_ns in intervals_ns]
