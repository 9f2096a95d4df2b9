"""Waiting times in which the wall clock was set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from experiments.wall_clock import WallClock

# Waits, and steps of minutes, as NTP makes them.
MOVES = st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0, 0, 90, -90, 200, -200])), max_size=12)


class Clocks:
    """A wall clock and a monotonic one, moved together or apart."""

    def __init__(self) -> None:
        self.now, self.monotonic_s = datetime(2026, 1, 1, tzinfo=UTC), 100.0
        self.wall = WallClock(lambda: self.now, lambda: self.monotonic_s)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.monotonic_s += seconds
        self.wall.look()

    def step(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def test_time_since_leaves_out_a_step_forward() -> None:
    clocks = Clocks()
    clocks.wall.look()
    at = clocks.now
    clocks.wait(5)
    clocks.step(90)
    clocks.wait(5)
    assert clocks.wall.since(at) == timedelta(seconds=10)


def test_time_of_after_a_step_is_not_changed() -> None:
    clocks = Clocks()
    clocks.wall.look()
    clocks.step(90)
    clocks.wait(1)
    at = clocks.now
    clocks.wait(5)
    assert clocks.wall.since(at) == timedelta(seconds=5)


def test_step_back_ends_no_wait_early() -> None:
    clocks = Clocks()
    at = clocks.wall.look()
    clocks.wait(5)
    clocks.step(-90)
    assert clocks.wall.since(at) == timedelta(seconds=-85)


def test_wait_after_a_clock_is_set_back_twice_keeps_its_length() -> None:
    clocks = Clocks()
    clocks.wait(5)
    for step in (90, -90, -90):
        clocks.step(step)
        clocks.wait(5)
    at = clocks.now
    clocks.wait(60)
    assert clocks.wall.since(at) == timedelta(seconds=60)


@given(MOVES, MOVES)
def test_steps_end_no_wait_early_and_change_no_later_one(
    before: list[tuple[int, int]], during: list[tuple[int, int]]
) -> None:
    clocks = Clocks()
    clocks.wait(1)
    for seconds, step in before:
        clocks.wait(seconds)
        clocks.step(step)
        clocks.wall.look()
    clocks.wait(1)
    at, began_s = clocks.now, clocks.monotonic_s
    for seconds, step in during:
        clocks.wait(seconds)
        waited = clocks.monotonic_s - began_s
        assert clocks.wall.since(at) <= timedelta(seconds=waited)
        if not any(step for _, step in during):
            assert clocks.wall.since(at) == timedelta(seconds=waited)
        clocks.step(step)
        clocks.wall.look()


def test_drift_is_no_step() -> None:
    clocks = Clocks()
    at = clocks.wall.look()
    for _ in range(100):
        clocks.step(0.1)
        clocks.wait(1)
    assert clocks.wall.since(at) == timedelta(seconds=110)
