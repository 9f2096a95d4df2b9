"""Offset of this device's monotonic clock to the broker's clock (Redis TIME), by round trips."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis
import redis.asyncio

from loadgen.protocol.messages import ClockSample

Monotonic = Callable[[], int]

TIME_RESOLUTION_NS = 1000  # TIME counts whole microseconds


def sample_of(before_ns: int, reply: tuple[int, int], after_ns: int) -> ClockSample:
    """The offset that one round trip shows: the broker read its clock somewhere between the two readings of ours.

    Args:
        reply: of TIME, (seconds, microseconds).
    """
    broker_ns = reply[0] * 1_000_000_000 + reply[1] * 1000
    middle_ns = (before_ns + after_ns) // 2
    return ClockSample(broker_ns - middle_ns, (after_ns - before_ns) // 2 + TIME_RESOLUTION_NS)


def measure(client: redis.Redis, rounds: int, monotonic_ns: Monotonic = time.monotonic_ns) -> ClockSample:
    """The sample with the shortest of `rounds` round trips. Redis' errors pass through."""
    samples = []
    for _ in range(rounds):
        before_ns = monotonic_ns()
        reply = client.time()
        samples.append(sample_of(before_ns, (int(reply[0]), int(reply[1])), monotonic_ns()))
    return best(samples)


async def measure_async(
    client: redis.asyncio.Redis, rounds: int, monotonic_ns: Monotonic = time.monotonic_ns
) -> ClockSample:
    """As `measure`, on an event loop."""
    samples = []
    for _ in range(rounds):
        before_ns = monotonic_ns()
        reply = await client.time()
        samples.append(sample_of(before_ns, (int(reply[0]), int(reply[1])), monotonic_ns()))
    return best(samples)


def best(samples: list[ClockSample]) -> ClockSample:
    """The sample that is known most exactly."""
    return min(samples, key=lambda sample: sample.uncertainty_ns)
