"""Measures the offset of this device's monotonic clock to the broker's clock (Redis TIME) by round trips."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis
import redis.asyncio

from loadgen.protocol.messages import ClockSample

Monotonic = Callable[[], int]

TIME_RESOLUTION_NS = 1000  # TIME counts whole microseconds


def sample_of(before_ns: int, reply: tuple[int, int], after_ns: int) -> ClockSample:
    """Returns the offset from one round trip; the broker read its clock between `before_ns` and `after_ns`.

    Args:
        reply: the answer to TIME: seconds and microseconds.
    """
    broker_ns = int(reply[0]) * 1_000_000_000 + int(reply[1]) * 1000
    middle_ns = (before_ns + after_ns) // 2
    return ClockSample(broker_ns - middle_ns, (after_ns - before_ns) // 2 + TIME_RESOLUTION_NS)


def measure(client: redis.Redis, rounds: int, monotonic_ns: Monotonic = time.monotonic_ns) -> ClockSample:
    """Returns the sample of the shortest of `rounds` round trips. Errors of Redis pass through."""
    return best([sample_of(monotonic_ns(), client.time(), monotonic_ns()) for _ in range(rounds)])


async def measure_async(
    client: redis.asyncio.Redis, rounds: int, monotonic_ns: Monotonic = time.monotonic_ns
) -> ClockSample:
    """As `measure`, on an event loop."""
    return best([sample_of(monotonic_ns(), await client.time(), monotonic_ns()) for _ in range(rounds)])


def best(samples: list[ClockSample]) -> ClockSample:
    """Returns the sample with the smallest uncertainty."""
    return min(samples, key=lambda sample: sample.uncertainty_ns)
