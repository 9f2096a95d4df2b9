"""The broker's clock: the one time axis of an experiment."""

from datetime import UTC, datetime, timedelta

from routing.redis import redis_client

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def broker_now_ns() -> int:
    """The Redis server's time in ns since the Unix epoch (resolution 1 µs). Raises redis.RedisError when it is away."""
    seconds, microseconds = redis_client().time()
    return int(seconds) * 1_000_000_000 + int(microseconds) * 1000


def to_datetime(broker_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=broker_ns // 1000)
