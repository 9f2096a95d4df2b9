"""What only one process may do at a time, where rows that do not exist yet cannot be locked."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import RedisError

from routing.connection import redis_client

KEY = "galileo:active:lock"
# A holder that was killed holds up the others for no longer; none takes nearly as long.
TTL_MS = 10_000
WITHIN_S = 15.0
_LOOK_EVERY_S = 0.02
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Busy(Exception):
    """Others were at it for too long."""


@contextmanager
def one_at_a_time(within_s: float = WITHIN_S) -> Iterator[None]:
    """Around whatever begins an experiment, or a group that an experiment may have to record.

    Raises:
        Busy: it was not our turn within that time.
        redis.RedisError
    """
    client, token = redis_client(), secrets.token_hex(8)
    deadline_s = time.monotonic() + within_s
    while not client.set(KEY, token, nx=True, px=TTL_MS):
        if time.monotonic() >= deadline_s:
            raise Busy("other experiments or client groups are being started; try again")
        time.sleep(_LOOK_EVERY_S)
    try:
        yield
    finally:
        with suppress(RedisError):  # it expires by itself
            client.eval(_UNLOCK, 1, KEY, token)
