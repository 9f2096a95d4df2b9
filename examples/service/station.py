"""A service station: a few servers with one bounded first-in-first-out queue, as in queueing theory."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque


class Full(Exception):
    """The queue is full."""


class Station:
    """`concurrency` servers and a queue of at most `queue_length` requests; counts what happens to them.

    Used on one event loop. `async with station:` occupies one server.
    """

    def __init__(self, concurrency: int, queue_length: int) -> None:
        self.concurrency = concurrency
        self.queue_length = queue_length
        self.busy = 0
        self.longest_queue = 0
        self.served = 0
        self.refused = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def __aenter__(self) -> None:
        if self.busy < self.concurrency:
            self.busy += 1
            return
        if len(self._waiting) >= self.queue_length:
            self.refused += 1
            raise Full(f"{self.queue_length} requests are waiting already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self.longest_queue = max(self.longest_queue, len(self._waiting))
        try:
            await turn  # `_release` hands the server over: `busy` does not change
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():
                self._release()  # cancelled just after the hand-over: the next request gets the server
            raise

    async def __aexit__(self, *_: object) -> None:
        self.served += 1
        self._release()

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # otherwise its request was cancelled and has not run since
                turn.set_result(None)
                return
        self.busy -= 1


class ServiceTimes:
    """Service times drawn from a log-normal distribution of the stated mean."""

    def __init__(self, mean_s: float, seed: int | None, sigma: float = 0.5) -> None:
        self._rng = random.Random(seed)
        self._sigma = sigma
        # The mean of a log-normal distribution is exp(mu + sigma² / 2).
        self._mu = math.log(mean_s) - sigma * sigma / 2 if mean_s > 0 else None

    def next_s(self) -> float:
        return 0.0 if self._mu is None else self._rng.lognormvariate(self._mu, self._sigma)
