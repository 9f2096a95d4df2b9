"""StartClock with a fake clock: which sample maps the start, and what later samples change."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import redis

from loadgen.protocol.messages import ClockSample
from loadgen.shard.start_clock import DRIFT_NS, ROUNDS, ROUNDS_LATER, SAMPLE_EVERY_S, StartClock
from tests.support.fake_clock import FakeClock

FIRST = ClockSample(1_000, 100_000)
BETTER = ClockSample(2_000, 50_000)
WORSE = ClockSample(3_000, FIRST.uncertainty_ns + DRIFT_NS + 1)


class Broker:
    """Gives these samples in turn, an exception is raised."""

    def __init__(self, *samples: ClockSample | Exception) -> None:
        self._samples = list(samples)
        self.rounds: list[int] = []
        self.adopted: list[tuple[ClockSample, bool]] = []
        self.clock = FakeClock()
        self.start = StartClock(self._measure, lambda *adopted: self.adopted.append(adopted), self.clock)

    async def _measure(self, rounds: int) -> ClockSample:
        self.rounds.append(rounds)
        sample = self._samples.pop(0)
        if isinstance(sample, Exception):
            raise sample
        return sample

    def measure(self) -> None:
        asyncio.run(self.start.measure())


def test_start_cannot_be_mapped_without_a_sample() -> None:
    assert Broker().start.start_ns(5_000) is None


def test_start_is_mapped_by_the_best_sample_before_it() -> None:
    broker = Broker(FIRST, WORSE, BETTER)
    for _ in range(3):
        broker.measure()
    assert broker.start.start_ns(10_000) == 8_000
    assert broker.adopted == [(FIRST, True), (BETTER, True)]
    assert broker.rounds == [ROUNDS] * 3


def test_older_sample_loses_to_one_within_the_drift() -> None:
    newer = ClockSample(3_000, FIRST.uncertainty_ns + DRIFT_NS)
    broker = Broker(FIRST, newer)
    broker.measure()
    broker.measure()
    assert broker.start.latest == newer


def test_fixed_start_keeps_its_sample() -> None:
    broker = Broker(FIRST, BETTER)
    broker.measure()
    broker.start.fix()
    broker.measure()
    assert broker.start.start_ns(10_000) == 9_000


def test_start_fixed_before_the_first_sample_is_mapped_by_it() -> None:
    broker = Broker(FIRST)
    broker.start.fix()
    broker.measure()
    assert broker.start.start_ns(10_000) == 9_000


def test_later_samples_show_the_drift_and_leave_the_start() -> None:
    broker = Broker(FIRST, BETTER, WORSE)
    broker.measure()
    broker.start.fix()
    broker.clock.run(broker.start.keep(), 2 * SAMPLE_EVERY_S)
    assert broker.adopted[1:] == [(BETTER, False), (WORSE, False)]
    assert broker.rounds[1:] == [ROUNDS_LATER] * 2
    assert (broker.start.start_ns(10_000), broker.start.latest) == (9_000, WORSE)


@pytest.mark.parametrize("is_fixed", [False, True])
def test_redis_away_costs_a_sample_only(is_fixed: bool) -> None:
    broker = Broker(FIRST, redis.ConnectionError("away"), BETTER)
    broker.measure()
    if is_fixed:
        broker.start.fix()
    broker.clock.run(broker.start.keep(), 2 * SAMPLE_EVERY_S)
    assert broker.start.latest == BETTER


NOW_NS = FakeClock().now_ns
STEP_NS = 90_000_000_000
# A start that lies two seconds ahead.
START_NS = NOW_NS + FIRST.offset_ns + 2_000_000_000


def stepped(step_ns: int) -> ClockSample:
    return replace(FIRST, offset_ns=FIRST.offset_ns + step_ns)


def confirmed(start_broker_ns: int, *samples: ClockSample | Exception) -> Broker:
    broker = Broker(*samples)
    broker.measure()
    broker.start.fix()
    asyncio.run(broker.start.confirm(start_broker_ns))
    return broker


@pytest.mark.parametrize("step_ns", [STEP_NS, -STEP_NS])
def test_start_set_after_a_step_is_mapped_by_a_fresh_sample(step_ns: int) -> None:
    broker = confirmed(START_NS + step_ns, FIRST, stepped(step_ns))
    assert broker.start.start_ns(START_NS + step_ns) == NOW_NS + 2_000_000_000
    assert broker.adopted[-1] == (stepped(step_ns), True)


def test_plausible_start_costs_no_sample() -> None:
    assert confirmed(START_NS, FIRST).rounds == [ROUNDS]


@pytest.mark.parametrize("step_ns", [0, STEP_NS, -STEP_NS])
def test_start_that_was_learnt_late_keeps_its_sample(step_ns: int) -> None:
    start_broker_ns = START_NS - 10_000_000_000
    broker = confirmed(start_broker_ns, FIRST, stepped(step_ns))
    assert broker.start.start_ns(start_broker_ns) == NOW_NS - 8_000_000_000


@pytest.mark.parametrize("step_ns", [STEP_NS, -STEP_NS])
def test_step_while_a_shard_waits_replaces_a_better_sample(step_ns: int) -> None:
    worse = replace(stepped(step_ns), uncertainty_ns=WORSE.uncertainty_ns)
    broker = Broker(FIRST, worse)
    broker.measure()
    broker.measure()
    assert broker.start.latest == worse


def test_attempt_that_takes_over_maps_the_start_without_the_step() -> None:
    broker = Broker(stepped(STEP_NS))
    broker.start = StartClock(broker._measure, lambda *adopted: None, broker.clock, STEP_NS)
    broker.measure()
    assert broker.start.start_ns(START_NS) == NOW_NS + 2_000_000_000
