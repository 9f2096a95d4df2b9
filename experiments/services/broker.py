"""Redis as seen by the controller: its clock, which is the time axis of an experiment, its locks and its replies."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from routing.errors import Unavailable
from routing.redis import redis_client

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START_KEY = "galileo:active:lock"
# A killed holder blocks the others for no longer; a living one needs far less.
TTL_S = 10.0
WITHIN_S = 15.0
_LOOK_EVERY_S = 0.02


def broker_now_ns() -> int:
    """The Redis server's time in ns since the Unix epoch (resolution 1 µs). Raises redis.RedisError when it is away."""
    seconds, microseconds = redis_client().time()
    return int(seconds) * 1_000_000_000 + int(microseconds) * 1000


def to_datetime(broker_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=broker_ns // 1000)


def as_text(value: bytes | str) -> str:
    """A reply of Redis, with `decode_responses` or without, as every database can store it."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text.replace("\0", "")


class LockTimeout(Unavailable):
    """Another process held the lock for too long."""


def shorten(key: str, ttl_s: float) -> None:
    """Lets a key expire within its TTL; after the broker's clock was set back, it would live for longer."""
    if redis_client().pttl(key) > ttl_s * 1000:
        redis_client().pexpire(key, round(ttl_s * 1000))


@contextmanager
def try_lock(key: str, ttl_s: float, within_s: float = 0.0) -> Iterator[Lock | None]:
    """Holds a lock that expires by itself; yields None when another process held it for all of `within_s`.

    Raises:
        redis.RedisError
    """
    lock = redis_client().lock(key, timeout=ttl_s, sleep=_LOOK_EVERY_S)
    if not lock.acquire(blocking=False):
        shorten(key, ttl_s)
        if not within_s or not lock.acquire(blocking_timeout=within_s):
            yield None
            return
    try:
        yield lock
    finally:
        with suppress(LockError, RedisError):  # it has expired, or will
            lock.release()


@contextmanager
def start_lock(within_s: float = WITHIN_S) -> Iterator[None]:
    """Holds the lock under which experiments are started, and groups that an experiment may have to record.

    Raises:
        LockTimeout
        redis.RedisError
    """
    with try_lock(_START_KEY, TTL_S, within_s) as lock:
        if lock is None:
            raise LockTimeout("other experiments or client groups are being started; try again")
        yield
