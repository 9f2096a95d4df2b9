"""The broker's clock, which is the one time axis of an experiment, and locks that processes hold in Redis."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from routing.errors import Unavailable
from routing.redis import redis_client

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEY = "galileo:active:lock"
# A holder that was killed holds up the others for no longer; none takes nearly as long.
TTL_S = 10.0
WITHIN_S = 15.0
_LOOK_EVERY_S = 0.02


def broker_now_ns() -> int:
    """The Redis server's time in ns since the Unix epoch (resolution 1 µs). Raises redis.RedisError when it is away."""
    seconds, microseconds = redis_client().time()
    return int(seconds) * 1_000_000_000 + int(microseconds) * 1000


def to_datetime(broker_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=broker_ns // 1000)


class Busy(Unavailable):
    """Others were at it for too long."""


@contextmanager
def held(key: str, ttl_s: float, within_s: float = 0.0) -> Iterator[Lock | None]:
    """A lock that expires by itself, or None where another process has it for all of that time.

    Raises:
        redis.RedisError
    """
    lock = redis_client().lock(key, timeout=ttl_s, sleep=_LOOK_EVERY_S)
    if not lock.acquire(blocking_timeout=within_s):
        yield None
        return
    try:
        yield lock
    finally:
        with suppress(LockError, RedisError):  # it has expired, or will
            lock.release()


@contextmanager
def one_at_a_time(within_s: float = WITHIN_S) -> Iterator[None]:
    """Around whatever begins an experiment, or a group that an experiment may have to record.

    Raises:
        Busy: it was not our turn within that time.
        redis.RedisError
    """
    with held(KEY, TTL_S, within_s) as lock:
        if lock is None:
            raise Busy("other experiments or client groups are being started; try again")
        yield
