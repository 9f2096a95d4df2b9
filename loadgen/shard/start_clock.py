"""StartClock: maps the start of a load from the broker's clock to the device's monotonic one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.protocol.messages import ClockSample
from loadgen.shard.clock import Clock

logger = logging.getLogger(__name__)

ROUNDS, ROUNDS_LATER = 50, 5  # round trips of a sample
SAMPLE_EVERY_S = 5.0
DRIFT_NS = 250_000  # two quartz clocks part by 50 µs a second at most, over SAMPLE_EVERY_S


class StartClock:
    """Samples of the broker's clock. The best one before the start maps the start; later ones show the drift.

    The start is mapped once and never again: the schedule must not move with later samples.

    Args:
        measure: takes a sample of so many round trips; may raise RedisError.
        on_sample: called with each sample that is adopted, and whether the start would be mapped by it.
    """

    def __init__(
        self,
        measure: Callable[[int], Awaitable[ClockSample]],
        on_sample: Callable[[ClockSample, bool], None],
        clock: Clock,
    ) -> None:
        self._measure = measure
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
        if known is None or (not self._is_fixed and sample.uncertainty_ns <= known.uncertainty_ns + DRIFT_NS):
            self._start_sample = sample
            self._adopt(sample, True)

    async def keep(self) -> None:
        """Takes samples until cancelled."""
        while True:
            raise_if_cancelled()
            await self._clock.sleep(SAMPLE_EVERY_S)
            try:
                if self._is_fixed:
                    self._adopt(await self._measure(ROUNDS_LATER), False)
                else:
                    await self.measure()
            except RedisError as error:
                logger.info("the clocks cannot be compared: %s", error)

    def _adopt(self, sample: ClockSample, is_start: bool) -> None:
        self.latest = sample
        self._on_sample(sample, is_start)
