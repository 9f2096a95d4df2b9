"""StartClock: maps the start of a load from the broker's clock to the device's monotonic one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from redis.exceptions import RedisError

from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.protocol.keys import START_AHEAD_NS
from loadgen.protocol.messages import ClockSample
from loadgen.shard.clock import Clock

logger = logging.getLogger(__name__)

ROUNDS, ROUNDS_LATER = 50, 5  # round trips of a sample
SAMPLE_EVERY_S = 5.0
DRIFT_NS = 250_000  # two quartz clocks part by 50 µs a second at most, over SAMPLE_EVERY_S
STEP_NS = 1_000_000_000  # so much more than drift and uncertainty means that the broker's clock was set


class StartClock:
    """Samples of the broker's clock. The best one before the start maps the start; later ones show the drift.

    The start is mapped once and never again: the schedule must not move with later samples.

    Args:
        measure: takes a sample of so many round trips; may raise RedisError.
        on_sample: called with each sample that is adopted, and whether the start would be mapped by it.
        step_ns: by how much the broker's clock has been set since the start, which is in the past.
    """

    def __init__(
        self,
        measure: Callable[[int], Awaitable[ClockSample]],
        on_sample: Callable[[ClockSample, bool], None],
        clock: Clock,
        step_ns: int = 0,
    ) -> None:
        self._measure = measure
        self._step_ns = step_ns
        self._on_sample = on_sample
        self._clock = clock
        self._is_fixed = False
        self._start_sample: ClockSample | None = None
        self.latest: ClockSample | None = None

    def fix(self) -> None:
        """Keeps the sample at hand, if there is one, as the start's."""
        self._is_fixed = True

    def start_ns(self, start_broker_ns: int) -> int | None:
        """Returns the start by the monotonic clock; None without a sample."""
        return None if self._start_sample is None else start_broker_ns - self._start_sample.offset_ns

    async def measure(self) -> None:
        """Takes a sample for the start, unless the one at hand is known more exactly, its age considered.

        Redis' errors pass through.
        """
        sample = await self._measure(ROUNDS)
        known = self._start_sample
        if known is None or (
            not self._is_fixed and (_is_step(sample, known) or sample.uncertainty_ns <= known.uncertainty_ns + DRIFT_NS)
        ):
            # As it was at the start.
            self._start_sample = replace(sample, offset_ns=sample.offset_ns - self._step_ns)
            self._adopt(self._start_sample, True)

    async def confirm(self, start_broker_ns: int) -> None:
        """Before a start is mapped: replaces the sample if the broker's clock was set between it and the start's time.

        That shows as a start which is further ahead than starts are, or has passed, and which a fresh sample puts
        right. Redis' errors pass through.
        """
        known = self._start_sample
        if known is None or self._is_near(start_broker_ns, known):
            return
        fresh = await self._measure(ROUNDS_LATER)
        if _is_step(fresh, known) and self._is_near(start_broker_ns, fresh):
            logger.warning("the broker's clock was set by %.3f s", (fresh.offset_ns - known.offset_ns) / 1e9)
            self._start_sample = fresh
            self._adopt(fresh, True)

    def _is_near(self, start_broker_ns: int, sample: ClockSample) -> bool:
        ahead_ns = start_broker_ns - sample.offset_ns - self._clock.monotonic_ns()
        return -STEP_NS < ahead_ns < START_AHEAD_NS + STEP_NS

    async def keep(self) -> None:
        """Takes samples until cancelled."""
        while True:
            raise_if_cancelled()
            await self._clock.sleep(SAMPLE_EVERY_S)
            if self._is_fixed:
                await self.look()
                continue
            try:
                await self.measure()
            except RedisError as error:
                logger.info("the clocks cannot be compared: %s", error)

    async def look(self) -> None:
        """Takes a sample of the present, after the start; without the broker there is none."""
        try:
            self._adopt(await self._measure(ROUNDS_LATER), False)
        except RedisError as error:
            logger.info("the clocks cannot be compared: %s", error)

    def _adopt(self, sample: ClockSample, is_start: bool) -> None:
        self.latest = sample
        self._on_sample(sample, is_start)


def _is_step(sample: ClockSample, known: ClockSample) -> bool:
    return abs(sample.offset_ns - known.offset_ns) > STEP_NS + sample.uncertainty_ns + known.uncertainty_ns
