"""The offset to the broker's clock."""

import asyncio
from itertools import count

import redis

from loadgen.device.clock import best, measure, measure_async, sample_of
from loadgen.device.redis_connections import async_client
from loadgen.protocol.messages import ClockSample
from tests.support.redis_server import RedisServer
from tests.support.worker_process import settings_for


class FakeTime:
    """A broker whose clock is `ahead_us` ahead; a round trip takes the next of `trips_ns`."""

    def __init__(self, ahead_us: int, trips_ns: list[int]) -> None:
        self.now_ns = 5_000_000_000
        self._ahead_us = ahead_us
        self._trips_ns = iter(trips_ns)

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time(self) -> tuple[int, int]:
        trip_ns = next(self._trips_ns)
        seconds, microseconds = divmod((self.now_ns + trip_ns // 2) // 1000 + self._ahead_us, 1_000_000)
        self.now_ns += trip_ns
        return seconds, microseconds


def test_the_uncertainty_is_half_of_the_round_trip() -> None:
    sample = sample_of(1_000_000, (7, 5), 1_400_000)

    assert sample == ClockSample(offset_ns=7_000_005_000 - 1_200_000, uncertainty_ns=200_000 + 1000)


def test_the_shortest_of_the_round_trips_counts() -> None:
    clock = FakeTime(ahead_us=123_456_789, trips_ns=[900_000, 200_000, 5_000_000])

    sample = measure(clock, 3, clock.monotonic_ns)

    assert sample == ClockSample(123_456_789_000, 101_000)


def test_the_best_sample_is_the_least_uncertain_one() -> None:
    samples = [ClockSample(1, 30), ClockSample(2, 10), ClockSample(3, 20)]

    assert best(samples).offset_ns == 2


def test_the_offset_is_the_same_on_an_event_loop(redis_server: RedisServer, store: redis.Redis, tmp_path) -> None:
    async def on_a_loop() -> ClockSample:
        async with async_client(settings_for(redis_server, "w", tmp_path).redis) as client:
            return await measure_async(client, 10)

    one, other = measure(store, 10), asyncio.run(on_a_loop())

    assert abs(one.offset_ns - other.offset_ns) <= one.uncertainty_ns + other.uncertainty_ns


def test_the_clock_is_read_twice_per_round_trip(store: redis.Redis) -> None:
    readings = count(0, 1000)

    measure(store, 3, lambda: next(readings))

    assert next(readings) == 6000
