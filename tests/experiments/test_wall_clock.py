"""Waiting times in which the wall clock was set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from experiments.wall_clock import WallClock


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


def test_drift_is_no_step() -> None:
    clocks = Clocks()
    at = clocks.wall.look()
    for _ in range(100):
        clocks.step(0.1)
        clocks.wait(1)
    assert clocks.wall.since(at) == timedelta(seconds=110)
