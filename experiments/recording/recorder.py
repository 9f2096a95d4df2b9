"""Recorder: stores the telemetry and events of every active experiment, about once a second.

It reads the active experiments from the database each second, so that it can continue after another one was killed,
with whom only the arrivals of the last second are lost. Two recorders at the same time store everything once.
"""

from __future__ import annotations

import logging
import threading
import time

import redis
from django.db import DatabaseError, Error, InterfaceError, OperationalError, connection
from redis.exceptions import RedisError

from experiments.recording.backlog import Backlog, Taken
from experiments.recording.listener import Listener
from experiments.recording.store import store
from experiments.services import nodes
from routing.redis import redis_client

log = logging.getLogger(__name__)

STORE_EVERY_S = 1.0
STORE_ROWS = 500  # or as soon as so many arrivals wait
MAX_ROWS = 5000  # in one transaction, after an outage
LOG_EVERY_S = 60.0
DESCRIBE_EVERY_S = 20.0  # for nodes that appear while an experiment is active
_JOIN_S = 2.0


class ListenerEnded(Exception):
    """The listener ended with an error, which was logged."""


class Recorder:
    """Records telemetry and events of every active experiment, and the information about its nodes."""

    def __init__(self, client: redis.Redis | None = None, backlog: Backlog | None = None) -> None:
        self._client = redis_client() if client is None else client
        self._backlog = Backlog() if backlog is None else backlog
        self._away = False  # the database
        self._broker_away = False
        self._log_at_s = 0.0
        self._describe_at_s = 0.0
        self._malformed = 0

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set, and then stores everything that was received.

        Raises:
            ListenerEnded: nothing is received any more; the caller should restart the recorder.
        """
        listener = Listener(self._client, self._backlog)
        listener.start()
        try:
            while not stop.is_set():
                self._backlog.wait(STORE_ROWS, STORE_EVERY_S)
                if not self.turn():
                    stop.wait(STORE_EVERY_S)  # pauses also when the backlog is large
                if not listener.is_alive():
                    raise ListenerEnded("telemetry and events are no longer recorded")
        finally:
            listener.stop()
            self.turn()  # before the wait, during which the process may be killed
            listener.join(_JOIN_S)
            if not self.turn():
                log.warning("%s samples and events are lost with this process", len(self._backlog))
            connection.close()

    def turn(self) -> bool:
        """Stores all arrivals and describes new experiments' nodes. Returns whether the database was available."""
        try:
            self._describe_nodes()
            while True:
                taken = self._backlog.take(MAX_ROWS)
                self._store(taken)
                if len(taken.arrivals) < MAX_ROWS:
                    break
        except Error as error:
            if not self._away:
                log.warning("telemetry and events wait, the database is away: %s", error)
            self._away = True
            connection.close()
            return False
        if self._away:
            log.info("the database is back, telemetry and events are stored")
        self._away = False
        return True

    def _describe_nodes(self) -> None:
        now_s = time.monotonic()
        also_known = now_s >= self._describe_at_s
        try:
            nodes.store_nodes(also_known=also_known)
        except RedisError as error:
            if not self._broker_away:
                log.warning("the information about the nodes cannot be read yet: %s", error)
            self._broker_away = True
            return
        self._broker_away = False
        if also_known:
            self._describe_at_s = now_s + DESCRIBE_EVERY_S

    def _store(self, taken: Taken) -> None:
        """Stores, with a second try after an error, because an experiment may have just been deleted."""
        for is_last_try in (False, True):
            try:
                store(taken)
                break
            except (OperationalError, InterfaceError):
                self._backlog.give_back(taken)
                raise
            except DatabaseError:
                if is_last_try:
                    log.exception("%s samples and events cannot be stored and are lost", len(taken.arrivals))
                    self._backlog.note_dropped(len(taken.arrivals))
        self._log_malformed(taken)

    def _log_malformed(self, taken: Taken) -> None:
        """Logs the number of malformed messages, at most once per LOG_EVERY_S."""
        unparsable = [tally for tally in taken.tallies.values() if tally.unparsable]
        self._malformed += sum(tally.unparsable for tally in unparsable)
        if unparsable and time.monotonic() >= self._log_at_s:
            log.warning("%s messages are malformed, such as %s", self._malformed, unparsable[0].example)
            self._log_at_s = time.monotonic() + LOG_EVERY_S
            self._malformed = 0
