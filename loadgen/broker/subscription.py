"""A subscription to channels that notices when its connection is dead, a half-open one too."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import redis
from redis.exceptions import ConnectionError as RedisConnectionError

PING_EVERY_S = 5.0
SILENT_S = 15.0


class Published(NamedTuple):
    """A message and the channel that it came on."""

    channel: bytes
    payload: bytes


class Subscription:
    """A context manager. Redis' errors pass through: then this one is over, and another may be opened.

    A subscriber sends nothing by itself, so that a connection that a router has forgotten would stay silent for ever.
    Hence it asks now and then, and a broker that does not answer is taken for away. The client must not decode.
    """

    def __init__(self, client: redis.Redis, *, channels: Sequence[str] = (), patterns: Sequence[str] = ()) -> None:
        untyped: Any = client
        self._pubsub = untyped.pubsub(ignore_subscribe_messages=True)
        self._channels = channels
        self._patterns = patterns
        self._asked_s = time.monotonic()
        self._unanswered_s: float | None = None  # since when

    def __enter__(self) -> Subscription:
        try:
            if self._channels:
                self._pubsub.subscribe(*self._channels)
            if self._patterns:
                self._pubsub.psubscribe(*self._patterns)
        except BaseException:
            self._pubsub.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pubsub.close()

    def get(self, timeout_s: float) -> Published | None:
        """The next message; None if there is none within this time, or sooner (an answer that is no message)."""
        now_s = time.monotonic()
        if now_s - self._asked_s > PING_EVERY_S:
            self._pubsub.ping()
            self._asked_s = now_s
            if self._unanswered_s is None:
                self._unanswered_s = now_s
        message = self._pubsub.get_message(timeout=min(timeout_s, PING_EVERY_S))
        if message is None:
            if self._unanswered_s is not None and time.monotonic() - self._unanswered_s > SILENT_S:
                raise RedisConnectionError(f"the broker has not answered for {SILENT_S:g} s")
            return None
        self._unanswered_s = None
        if message["type"] not in ("message", "pmessage"):
            return None
        return Published(message["channel"], message["data"])
