"""Ticks: the engine's periodic work during a load: time-outs, stalls of the event loop, garbage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from loadgen.engine.garbage import GarbageCollection
from loadgen.engine.http.pool import Pool
from loadgen.engine.stalls import StallWatch

TICK_S: Final = 0.01
TICK_NS: Final = 10_000_000
_TICKS_PER_COLLECTION: Final = 100


class Ticks:
    """Ticks every 10 ms from `start` to `stop`.

    Args:
        on_tick: called last in each tick, with the time up to which all received data has been read; returns whether to
            tick again.
        on_error: called with an error of a tick, which is the last one then.
    """

    def __init__(
        self,
        pool: Pool,
        garbage: GarbageCollection,
        stalls: StallWatch,
        on_tick: Callable[[int], bool],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._pool = pool
        self._garbage = garbage
        self._stalls = stalls
        self._on_tick = on_tick
        self._on_error = on_error
        self._handle: asyncio.Handle | None = None
        self._ticks = 0
        self._ticked_ns = 0

    def start(self) -> None:
        """Starts to tick, unless it was started before."""
        if self._handle is None:
            self._ticked_ns = self._pool.now_ns()
            self._stalls.start(self._ticked_ns)
            self._handle = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._stalls.stop()

    def _tick(self) -> None:
        try:
            if self._check():
                self._handle = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        except Exception as error:  # noqa: BLE001
            self._on_error(error)

    def _check(self) -> bool:
        now_ns = self._pool.now_ns()
        # Data that had arrived by the last tick has been read since then. Later data may still be in its socket: after
        # a stall of this process, responses in time would end as time-outs.
        read_until_ns, self._ticked_ns = self._ticked_ns, now_ns
        self._stalls.tick(now_ns)
        self._ticks += 1
        if self._ticks % _TICKS_PER_COLLECTION == 0:
            self._garbage.collect_if_due()
        self._pool.sweep(read_until_ns)
        return self._on_tick(read_until_ns)
