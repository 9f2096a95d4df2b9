"""Forwards sealed batches from the spool to ingest, and deletes each once it is acknowledged.

Its only state that counts is the files: whatever it forgets when it is killed is sent again, and ingest takes a batch
that it has already for acknowledged. Ingest's queues are first in, first out.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from loadgen.batch import compress, decode
from loadgen.messages import MessageError, ingest_queue
from loadgen.spool import BatchName, Spool

logger = logging.getLogger(__name__)

WINDOW = 8  # unacknowledged batches of a shard
RESEND_AFTER_NS, RESEND_AFTER_MAX_NS = 5_000_000_000, 60_000_000_000
_OBSERVE_EVERY_NS = 1_000_000_000


class BrokerAwayError(Exception):
    """The broker cannot be reached; try again later."""


class Ingest(Protocol):
    """The way to ingest. Each method raises BrokerAwayError when there is none."""

    def send(self, queue: str, name: BatchName, data: bytes) -> None: ...

    def pop_acknowledged(self, wait_s: float) -> list[str]:
        """Ids of batches that are in the database now; waits up to `wait_s` for the first."""

    def progress(self, queue: str) -> int:
        """A counter that moves while the queue is worked off."""

    def waiting(self, queue: str) -> int:
        """Batches in the queue."""


@dataclass
class _Sent:
    """A batch that was sent and is not acknowledged."""

    queue: str
    first_order: int  # of its first and last sending among all that this object did
    last_order: int
    sent_ns: int
    tries: int = 1
    lost: bool = False
    empty_ns: int | None = None  # when its queue was first seen empty after the last sending


class Forwarder:
    """One worker's forwarder. Not thread-safe: one thread calls `step`.

    Args:
        queues: how many ingest queues there are.
    """

    def __init__(
        self, spool: Spool, ingest: Ingest, queues: int, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._spool = spool
        self._ingest = ingest
        self._queues = queues
        self._monotonic_ns = monotonic_ns
        self._sent: dict[BatchName, _Sent] = {}
        self._sendings = 0
        self._observed_ns = 0
        self._progress: dict[str, tuple[int, int]] = {}  # queue -> (counter, when it was seen to move)

    @property
    def unacknowledged(self) -> int:
        """Batches that were sent and are not acknowledged."""
        return len(self._sent)

    def step(self, wait_s: float = 0.0) -> int:
        """Takes acknowledgements, sends what is new, sends again what is lost; returns how many things it did.

        Raises:
            BrokerAwayError: nothing is lost; call again later.
        """
        done = 0
        if self._sent:
            for batch in self._ingest.pop_acknowledged(wait_s):
                self._acknowledge(batch)
                done += 1
        done += self._send_new()
        if self._sent:
            self._observe()
            done += self._send_again()
        return done

    def _acknowledge(self, batch: str) -> None:
        name = BatchName.parse(f"{batch}.batch")
        if name is None:
            logger.error("an acknowledgement names no batch: %.80s", batch)
            return
        self._spool.remove(name)
        sent = self._sent.pop(name, None)
        if sent is None:
            return  # sent before we were started
        for other in self._sent.values():
            # Later in, yet out before: the other one is not in the queue any more. The first sending counts for
            # the acknowledged one, as its acknowledgement may be that of any of its sendings.
            if other.queue == sent.queue and other.last_order < sent.first_order:
                other.lost = True

    def _send_new(self) -> int:
        window: dict[int, int] = defaultdict(int)
        for name in self._sent:
            window[name.shard_id] += 1
        done = 0
        for name in self._spool.scan():
            if name in self._sent or window[name.shard_id] >= WINDOW:
                continue
            data = self._read(name)
            if data is None:
                continue
            queue = ingest_queue(name.shard_id, self._queues)
            self._ingest.send(queue, name, data)
            self._sendings += 1
            self._sent[name] = _Sent(queue, self._sendings, self._sendings, self._monotonic_ns())
            window[name.shard_id] += 1
            done += 1
        return done

    def _send_again(self) -> int:
        done = 0
        for name, sent in sorted(self._sent.items()):
            if not self._is_due_again(sent):
                continue
            data = self._read(name)
            if data is None:
                del self._sent[name]
                continue
            self._ingest.send(sent.queue, name, data)
            logger.info("batch %s was not acknowledged, sent again", name.id)
            self._sendings += 1
            sent.last_order, sent.sent_ns, sent.tries = self._sendings, self._monotonic_ns(), sent.tries + 1
            sent.lost, sent.empty_ns = False, None
            done += 1
        return done

    def _is_due_again(self, sent: _Sent) -> bool:
        if sent.lost:
            return True
        now_ns = self._monotonic_ns()
        time_out_ns = min(RESEND_AFTER_NS << (sent.tries - 1), RESEND_AFTER_MAX_NS)
        if now_ns - sent.sent_ns < time_out_ns:
            return False
        # A queue that was empty for so long does not hold it, whatever moves the counter.
        if sent.empty_ns is not None and now_ns - sent.empty_ns >= time_out_ns:
            return True
        _, moved_ns = self._progress.get(sent.queue, (0, now_ns))
        return now_ns - moved_ns >= time_out_ns

    def _observe(self) -> None:
        """Looks at the queues of batches that wait for long, about every second."""
        now_ns = self._monotonic_ns()
        if now_ns - self._observed_ns < _OBSERVE_EVERY_NS:
            return
        self._observed_ns = now_ns
        late = [sent for sent in self._sent.values() if now_ns - sent.sent_ns >= _OBSERVE_EVERY_NS]
        for queue in {sent.queue for sent in late}:
            counter = self._ingest.progress(queue)
            if counter != self._progress.get(queue, (None, 0))[0]:
                self._progress[queue] = (counter, now_ns)
            if self._ingest.waiting(queue) == 0:
                for sent in late:
                    if sent.queue == queue and sent.empty_ns is None:
                        sent.empty_ns = now_ns

    def _read(self, name: BatchName) -> bytes | None:
        """The compressed batch; None if it is gone, or set aside because it is none (a device lost its power)."""
        try:
            data = self._spool.read(name)
        except FileNotFoundError:
            return None
        try:
            decode(data)
        except MessageError as error:
            logger.error("set aside as %s: %s", self._spool.set_aside(name), error)
            return None
        return compress(data)
