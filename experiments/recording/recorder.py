"""The recorder's loop. It keeps nothing that a killed one would take along but the last second's arrivals.

What it has to do is read from the database each second, so that it goes on wherever another one was killed. Two of them
at once store everything once.
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
STORE_ROWS = 500  # or sooner, when so much has come
MAX_ROWS = 5000  # in one transaction, when there is much to catch up with
COMPLAIN_EVERY_S = 60.0
DESCRIBE_EVERY_S = 20.0  # nodes that come while an experiment is active
_JOIN_S = 2.0


class ListenerEnded(Exception):
    """The listener ended of an error, which the log has."""


class Recorder:
    """Records telemetry and events of every active experiment, and what its nodes are."""

    def __init__(self, client: redis.Redis | None = None, backlog: Backlog | None = None) -> None:
        self._client = redis_client() if client is None else client
        self._backlog = Backlog() if backlog is None else backlog
        self._away = False  # the database
        self._broker_away = False
        self._complain_at_s = 0.0
        self._describe_at_s = 0.0
        self._complaints = 0

    def run(self, stop: threading.Event) -> None:
        """Returns soon after `stop` is set, with everything stored that was heard.

        Raises:
            ListenerEnded: and whoever runs us should end, to be started anew.
        """
        listener = Listener(self._client, self._backlog)
        listener.start()
        try:
            while not stop.is_set():
                self._backlog.wait(STORE_ROWS, STORE_EVERY_S)
                if not self.turn():
                    stop.wait(STORE_EVERY_S)  # however much has come: it is of no use to ask without a pause
                if not listener.is_alive():
                    raise ListenerEnded("telemetry and events are not recorded any more")
        finally:
            listener.stop()
            self.turn()  # before the wait, for which whoever ends us may have no time
            listener.join(_JOIN_S)
            if not self.turn():
                log.warning("%s samples and events are lost with this process", len(self._backlog))
            connection.close()

    def turn(self) -> bool:
        """Stores all that has come, and takes up experiments that have begun; False while the database is away."""
        try:
            self._take_up()
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

    def _take_up(self) -> None:
        now_s = time.monotonic()
        also_known = now_s >= self._describe_at_s
        try:
            nodes.describe(also_known=also_known)
        except RedisError as error:
            if not self._broker_away:
                log.warning("what the nodes are cannot be read yet: %s", error)
            self._broker_away = True
            return
        self._broker_away = False
        if also_known:
            self._describe_at_s = now_s + DESCRIBE_EVERY_S

    def _store(self, taken: Taken) -> None:
        """One try more when the database refuses: an experiment that was deleted just now is not looked at again."""
        for is_last_try in (False, True):
            try:
                store(taken)
                break
            except (OperationalError, InterfaceError):
                self._backlog.give_back(taken)
                raise
            except DatabaseError:
                if is_last_try:
                    log.exception("%s samples and events cannot be stored, they are lost", len(taken.arrivals))
                    self._backlog.note_dropped(len(taken.arrivals))
        self._complain(taken)

    def _complain(self, taken: Taken) -> None:
        """Tells of what makes no sense, now and then."""
        unparsable = [tally for tally in taken.tallies.values() if tally.unparsable]
        self._complaints += sum(tally.unparsable for tally in unparsable)
        if unparsable and time.monotonic() >= self._complain_at_s:
            log.warning("%s messages make no sense, such as %s", self._complaints, unparsable[0].example)
            self._complain_at_s = time.monotonic() + COMPLAIN_EVERY_S
            self._complaints = 0
