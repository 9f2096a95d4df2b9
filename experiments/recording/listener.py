"""Listener: a thread that receives telemetry and events, and adds them to the backlog.

It is a thread of its own, so that a slow database does not make Redis wait. Redis keeps no messages for absent
subscribers: messages that are published while Redis or this process is down are lost.
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
    """Runs until `stop`; subscribes again after Redis was unavailable."""

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
                    log.warning("telemetry and events cannot be received, Redis is unavailable: %s", error)
                self._away = True
                self._stopped.wait(_AWAY_PAUSE_S)

    def _listen(self) -> None:
        with Subscription(self._client, channels=[EVENTS_CHANNEL], patterns=[TELEMETRY_PATTERN]) as subscription:
            if self._away:
                log.info("Redis is back, telemetry and events are received again")
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
