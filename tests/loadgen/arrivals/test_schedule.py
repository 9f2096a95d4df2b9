"""A schedule's integral and its inverse, as rows of numbers and as properties."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.arrivals.schedule import Schedule

S = 1_000_000_000

steps = st.lists(
    st.tuples(
        st.integers(1, 3600 * S),
        st.one_of(st.just(0.0), st.floats(0.001, 50_000, allow_nan=False, allow_infinity=False)),
    ),
    min_size=1,
    max_size=8,
)

STAIRS = [(5 * S, 50.0), (5 * S, 100.0), (5 * S, 200.0), (5 * S, 100.0)]
GAP = [(S, 10.0), (2 * S, 0.0), (S, 20.0)]
PARTIAL = [(10 * S, 3.0), (2_500_000_000, 4.0)]  # the last interval is shorter than the first


@pytest.mark.parametrize(
    ("given_steps", "total", "duration_s"),
    [(STAIRS, 2250, 20), (GAP, 30, 4), (PARTIAL, 40, 12.5), ([(S, 0.0)], 0, 1), ([(1, 1.0)], 1e-9, 1e-9)],
)
def test_the_total_is_the_sum_over_the_steps(
    given_steps: list[tuple[int, float]], total: float, duration_s: float
) -> None:
    schedule = Schedule(given_steps)
    assert schedule.total == pytest.approx(total)
    assert schedule.duration_ns == duration_s * S


@pytest.mark.parametrize(
    ("given_steps", "time_s", "arrivals"),
    [
        (STAIRS, -1, 0),
        (STAIRS, 0, 0),
        (STAIRS, 2, 100),
        (STAIRS, 5, 250),
        (STAIRS, 7.5, 500),
        (STAIRS, 20, 2250),
        (STAIRS, 99, 2250),
        (GAP, 1, 10),
        (GAP, 2, 10),
        (GAP, 3, 10),
        (GAP, 3.5, 20),
        (PARTIAL, 11, 34),
    ],
)
def test_arrivals_before_a_time(given_steps: list[tuple[int, float]], time_s: float, arrivals: float) -> None:
    assert Schedule(given_steps).arrivals_before(round(time_s * S)) == pytest.approx(arrivals)


@pytest.mark.parametrize(
    ("given_steps", "arrivals", "time_s"),
    [
        (STAIRS, 0, 0),
        (STAIRS, 0.5, 0.01),
        (STAIRS, 250, 5),
        (STAIRS, 251, 5.01),
        (STAIRS, 2249.5, 19.995),
        (STAIRS, 2250, None),
        (GAP, 9.5, 0.95),
        (GAP, 10, 3),  # over the step of rate 0
        (GAP, 11, 3.05),
        (GAP, 30, None),
        (PARTIAL, 39, 12.25),
        (PARTIAL, 40, None),
        ([(S, 0.0)], 0, None),
        ([(S, 0.0), (S, 1.0)], 0, 1),
        ([(S, 1.0), (S, 0.0)], 0.5, 0.5),
        ([(S, 1.0), (S, 0.0)], 1, None),
    ],
)
def test_the_time_of_an_arrival(given_steps: list[tuple[int, float]], arrivals: float, time_s: float | None) -> None:
    expected = None if time_s is None else round(time_s * S)
    assert Schedule(given_steps).time_of(arrivals) == expected


@pytest.mark.parametrize(
    "wrong", [[], [(0, 1.0)], [(-1, 1.0)], [(1, -1.0)], [(1, math.nan)], [(1, math.inf)], [(S, 1.0), (S, -0.1)]]
)
def test_a_schedule_without_sense_is_refused(wrong: list[tuple[int, float]]) -> None:
    with pytest.raises(ValueError, match=r"schedule|step"):
        Schedule(wrong)


@given(steps, st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_time_of_inverts_the_integral(given_steps: list[tuple[int, float]], fractions: list[float]) -> None:
    schedule = Schedule(given_steps)
    arrivals = sorted(fraction * schedule.total for fraction in fractions)
    times = [schedule.time_of(arrival) for arrival in arrivals]
    if schedule.total == 0:
        assert times == [None] * len(times)
        return
    found = [time for time in times if time is not None]
    assert found == sorted(found)
    for arrival, time in zip(arrivals, times, strict=True):
        if time is None:
            assert arrival >= schedule.total
        else:
            assert 0 <= time <= schedule.duration_ns
            # Half a nanosecond of rounding at the highest rate, and the last bits of the sum.
            assert schedule.arrivals_before(time) == pytest.approx(arrival, rel=1e-9, abs=1e-4)


@given(steps)
def test_steps_are_contiguous_in_arrivals(given_steps: list[tuple[int, float]]) -> None:
    schedule = Schedule(given_steps)
    assert [step.first for step in schedule.steps] == [0.0, *(step.end for step in schedule.steps)][
        : len(schedule.steps)
    ]
    assert all(step.first < step.end for step in schedule.steps)
    assert max((step.end for step in schedule.steps), default=0.0) == schedule.total
    starts_ns = [sum(duration_ns for duration_ns, _ in given_steps[:number]) for number in range(len(given_steps))]
    assert {math.floor(step.origin_ns) for step in schedule.steps} <= set(starts_ns)


@given(steps, st.lists(st.integers(-S, 4 * 3600 * S), min_size=2, max_size=20))
def test_the_integral_never_decreases(given_steps: list[tuple[int, float]], times: list[int]) -> None:
    schedule = Schedule(given_steps)
    values = [schedule.arrivals_before(time) for time in sorted(times)]
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(values))
