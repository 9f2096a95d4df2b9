"""Attempts to log in with a password: how many wrong ones a key may have in a period, counted in Redis or a process.

An attempt begins before the password is hashed, which is slow, and ends after it. Wrong attempts of the period and
attempts in flight together never exceed the limit, so that no more wrong passwords than that are hashed. While only the
attempts in flight prevent another one, it is `BUSY`: those may turn out to be right, and it can begin when they end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import redis

# Attempts in flight that have not ended by then belong to a process that was killed.
LONGEST_ATTEMPT_S = 60.0
IN_FLIGHT = ":in-flight"  # added to a key: the attempts in flight in Redis, by the time at which they are forgotten

T = TypeVar("T")
Ask = Callable[[Callable[[redis.Redis], T]], T | None]

# KEYS of both scripts: the number of wrong attempts, the attempts in flight.
# ARGV: the attempt, the limit, the period in ms, the longest attempt in ms. If the broker's clock was set back, the
# period would last for longer: it is shortened.
_BEGIN = """
local wrong = tonumber(redis.call('GET', KEYS[1]) or 0)
local limit, period = tonumber(ARGV[2]), tonumber(ARGV[3])
if wrong >= limit then
  local left = redis.call('PTTL', KEYS[1])
  if left > period then
    redis.call('PEXPIRE', KEYS[1], period)
    left = period
  end
  return {'refused', left}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if wrong + redis.call('ZCARD', KEYS[2]) >= limit then return {'busy', 0} end
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {'admitted', 0}
"""

# ARGV: the attempt, whether it was wrong (0 or 1), the period in ms.
_END = """
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[2] == '1' then
  redis.call('SET', KEYS[1], 0, 'PX', ARGV[3], 'NX')
  redis.call('INCR', KEYS[1])
end
return 1
"""


class Answer(StrEnum):
    """Whether an attempt may begin: now, when another one has ended, or not in this period."""

    ADMITTED = "admitted"
    BUSY = "busy"
    REFUSED = "refused"


class Attempts(Protocol):
    """Counts the attempts of keys. A period begins with its first wrong attempt."""

    def begin(self, key: str, attempt: str, limit: int, period_s: int) -> tuple[Answer, float] | None:
        """Returns the answer, and for REFUSED the seconds until the period ends; None if they cannot be counted."""

    def end(self, key: str, attempt: str, wrong: bool, period_s: int) -> bool:
        """Counts an attempt that was admitted as ended, and as wrong if it was; returns whether that was possible."""


class BrokerAttempts:
    """Counts in Redis, for all processes together.

    Args:
        ask: calls a function with the client of the broker; returns None while the broker does not answer.
    """

    def __init__(self, ask: Ask[Any]) -> None:
        self._ask = ask

    def begin(self, key: str, attempt: str, limit: int, period_s: int) -> tuple[Answer, float] | None:
        arguments = (attempt, limit, period_s * 1000, round(LONGEST_ATTEMPT_S * 1000))
        found = self._ask(lambda broker: broker.eval(_BEGIN, 2, key, key + IN_FLIGHT, *arguments))
        return None if found is None else (Answer(found[0].decode()), found[1] / 1000)

    def end(self, key: str, attempt: str, wrong: bool, period_s: int) -> bool:
        arguments = (attempt, int(wrong), period_s * 1000)
        return self._ask(lambda broker: broker.eval(_END, 2, key, key + IN_FLIGHT, *arguments)) is not None


class ProcessAttempts:
    """Counts in this process; as many keys as there are buckets of addresses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: dict[str, tuple[int, float]] = {}  # key → wrong attempts, end of the period
        self._in_flight: dict[str, set[str]] = {}

    def begin(self, key: str, attempt: str, limit: int, period_s: int) -> tuple[Answer, float]:
        with self._lock:
            wrong, left_s = self._period(key, period_s)
            if wrong >= limit:
                return Answer.REFUSED, left_s
            in_flight = self._in_flight.setdefault(key, set())
            if wrong + len(in_flight) >= limit:
                return Answer.BUSY, 0.0
            in_flight.add(attempt)
            return Answer.ADMITTED, 0.0

    def end(self, key: str, attempt: str, wrong: bool, period_s: int) -> bool:
        with self._lock:
            self._in_flight.get(key, set()).discard(attempt)
            if wrong:
                count, left_s = self._period(key, period_s)
                self._wrong[key] = count + 1, self._clock() + left_s
        return True

    def _period(self, key: str, period_s: int) -> tuple[int, float]:
        """The wrong attempts of a key's present period, and the seconds until it ends."""
        wrong, end_s = self._wrong.get(key, (0, 0.0))
        left_s = end_s - self._clock()
        return (wrong, left_s) if left_s > 0 else (0, float(period_s))
