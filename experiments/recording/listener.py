"""Hears telemetry and events, and puts them into the backlog as they come.

Redis keeps no message for who is not there: what is published while the broker, or we, are away is lost to us.
"""

from __future__ import annotations

import logging
import threading

import redis
from redis.exceptions import RedisError

from experiments.recording.backlog import Backlog
from loadgen.broker.subscription import Published, Subscription
from loadgen.protocol.codec import MessageError
from loadgen.protocol.topics import EVENTS_CHANNEL, TELEMETRY_PATTERN, parse_mark, parse_sample

log = logging.getLogger(__name__)

_TURN_S = 0.25
_AWAY_PAUSE_S = 1.0


class Listener(threading.Thread):
    """Runs until `stop`; it subscribes again whenever the broker has been away."""

    def __init__(self, client: redis.Redis, backlog: Backlog) -> None:
        super().__init__(name="recording-listener", daemon=True)
        self._client = client
        self._backlog = backlog
        self._stopped = threading.Event()
        self._away = False

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except RedisError as error:
                if not self._away:
                    log.warning("telemetry and events cannot be heard, the broker is away: %s", error)
                self._away = True
                self._stopped.wait(_AWAY_PAUSE_S)

    def _listen(self) -> None:
        with Subscription(self._client, channels=[EVENTS_CHANNEL], patterns=[TELEMETRY_PATTERN]) as subscription:
            if self._away:
                log.info("the broker is back, telemetry and events are heard again")
            self._away = False
            while not self._stopped.is_set():
                published = subscription.get(_TURN_S)
                if published is not None:
                    self._take(published)

    def _take(self, published: Published) -> None:
        try:
            if published.channel == EVENTS_CHANNEL.encode():
                self._backlog.add(parse_mark(published.payload))
            else:
                self._backlog.add(parse_sample(published.channel, published.payload))
        except MessageError as error:
            self._backlog.note_unparsable(f"{published.channel.decode(errors='backslashreplace'):.255}: {error}")
