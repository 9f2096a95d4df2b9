"""The instruction queue as a duty of the experiment daemon."""

from __future__ import annotations

import logging
import threading

from django.db import InterfaceError, OperationalError, ProgrammingError, close_old_connections, connection
from redis.exceptions import RedisError

from experiments.instructions.carrying_out import carry_out
from experiments.instructions.queue import InstructionQueue
from loadgen.protocol.keys import INSTRUCTIONS_KEY

log = logging.getLogger(__name__)

# How long one look at the queue takes at most: the daemon ends within two seconds.
WAIT_S = 1
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
# Broker or database are away, or the database has no tables yet.
AWAY = (RedisError, OperationalError, InterfaceError, ProgrammingError)


class InstructionDuty:
    """Carries out one instruction after the other, the oldest first. What cannot be carried out now waits, and is tried
    again; what never can be is said, and does not hold up the next."""

    def __init__(self, queue: InstructionQueue) -> None:
        self._queue = queue

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        log.info("instructions are taken from %s", INSTRUCTIONS_KEY)
        pause_s = 0.0
        while not stop.is_set():
            try:
                self.step()
            except AWAY as error:
                if not pause_s:
                    log.warning("instructions wait: %s", error)
                connection.close()
                pause_s = min(2 * pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
                stop.wait(pause_s)
            else:
                if pause_s:
                    log.info("instructions are taken again")
                pause_s = 0.0

    def step(self) -> None:
        """Carries out the oldest instruction there is, or waits for one for a moment."""
        entry = self._queue.oldest()
        if entry is None:
            self._queue.wait(WAIT_S)
            return
        close_old_connections()
        try:
            carry_out(entry)
        except AWAY:
            raise
        except Exception:  # a fault of ours in one instruction must not stop the others
            log.exception("instruction %s cannot be carried out, and is left out: %r", entry.ticket, entry.pushed[:200])
        self._queue.remove(entry)
