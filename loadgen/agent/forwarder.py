"""Forwards sealed batches from the spool to ingest, and deletes each once it is acknowledged.

Its only state that counts is the files: whatever it forgets when it is killed is sent again, and ingest takes a batch
that it has already for acknowledged. Ingest's queues are first in, first out. A batch is sent again when its queue
cannot hold it any more, never while it may: so an ingest that is down finds each batch once, however long it was.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from loadgen.device.spool import BROKEN, REFUSED, BatchName, Spool
from loadgen.protocol.batch import decode, to_message
from loadgen.protocol.codec import MessageError
from loadgen.protocol.keys import ingest_queue
from loadgen.protocol.messages import BatchHeader

logger = logging.getLogger(__name__)

WINDOW = 8  # unacknowledged batches of a shard
# Ingest drops what it cannot store while the database is away. Once that is back, the controller waits 60 s for the
# batches of an experiment that ends, so the longest pause is well below.
RESEND_AFTER_NS, RESEND_AFTER_MAX_NS = 5_000_000_000, 15_000_000_000
_OBSERVE_EVERY_NS = 1_000_000_000
_IDLE_LOOK_EVERY_NS = 2_000_000_000
_SCAN_SHARE = 20  # at most 1/20 of the time goes into lists of the spool, which may hold the batches of hours


class BrokerAwayError(Exception):
    """The broker cannot be reached; try again later."""


class Ingest(Protocol):
    """The way to ingest. Each method raises BrokerAwayError when there is none."""

    def send(self, queue: str, name: BatchName, data: bytes) -> None: ...

    def pop_answers(self, wait_s: float) -> list[str]:
        """The answers of ingest (keys.ack_key); waits up to `wait_s` for the first."""

    def progress(self, queue: str) -> int:
        """How many batches of the queue ingest has answered."""

    def waiting(self, queue: str) -> int:
        """Batches in the queue."""


class TraceLog(Protocol):
    """Where traces go besides ingest. Raises BrokerAwayError when it cannot be reached."""

    def write(self, header: BatchHeader, records: bytes) -> None: ...


@dataclass
class _Sent:
    """A batch that was sent and is not answered."""

    queue: str
    first_order: int  # of its first and last sending among all that this object did
    last_order: int
    sent_ns: int
    tries: int = 1
    # Since the last sending:
    overtaken: bool = False
    seen_at: int = -1  # ingest's progress when the queue was looked at first
    passed_at: int = 0  # ingest's progress at which all that the queue held then has been answered
    gone_ns: int | None = None  # since when the queue is known not to hold it

    def look(self, waiting: int, progress: int, now_ns: int) -> None:
        """Takes note of its queue: how many batches wait there, and ingest's progress."""
        if self.seen_at < 0 or progress < self.seen_at:  # the counter restarts with a new broker
            self.seen_at, self.passed_at = progress, progress + waiting + 1  # and one in ingest's hands
        if self.gone_ns is None and (waiting == 0 or progress >= self.passed_at):
            self.gone_ns = now_ns

    def is_due_again(self, now_ns: int) -> bool:
        if self.overtaken and self.tries == 1:
            return True
        pause_ns = min(RESEND_AFTER_NS << (self.tries - 1), RESEND_AFTER_MAX_NS)
        # One that ingest fails to store is overtaken again and again: only the first time is it sent at once.
        since_ns = self.sent_ns if self.overtaken else self.gone_ns
        return since_ns is not None and now_ns - since_ns >= pause_ns

    def sent_again(self, order: int, now_ns: int) -> None:
        self.last_order, self.sent_ns, self.tries = order, now_ns, self.tries + 1
        self.overtaken, self.seen_at, self.passed_at, self.gone_ns = False, -1, 0, None


class Forwarder:
    """One worker's forwarder. Not thread-safe: one thread calls `step`.

    Args:
        queues: how many ingest queues there are.
        trace_log: gets each batch once, before it is sent, unless its rows are not to be stored.
    """

    def __init__(
        self,
        spool: Spool,
        ingest: Ingest,
        queues: int,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        trace_log: TraceLog | None = None,
    ) -> None:
        self._spool = spool
        self._ingest = ingest
        self._queues = queues
        self._monotonic_ns = monotonic_ns
        self._trace_log = trace_log
        self._sent: dict[BatchName, _Sent] = {}
        self._sendings = 0
        self._observed_ns = 0
        self._idle_look_ns = 0
        self._unsent: dict[tuple[str, int], deque[BatchName]] = {}  # by shard, of the last look into the spool
        self._next_scan_ns = 0

    @property
    def unacknowledged(self) -> int:
        """Batches that were sent and are not answered."""
        return len(self._sent)

    def step(self, wait_s: float = 0.0) -> int:
        """Takes answers, sends what is new, sends again what is lost; returns how many things it did.

        Raises:
            BrokerAwayError: nothing is lost; call again later.
        """
        done = 0
        now_ns = self._monotonic_ns()
        # Answers to what is not waited for, as to a batch that was delivered twice, are taken now and then.
        if self._sent or now_ns >= self._idle_look_ns:
            self._idle_look_ns = now_ns + _IDLE_LOOK_EVERY_NS
            for answer in self._ingest.pop_answers(wait_s if self._sent else 0.0):
                self._take(answer)
                done += 1
        done += self._send_new()
        if self._sent:
            self._observe()
            done += self._send_again()
        return done

    def _take(self, answer: str) -> None:
        """Deletes a batch that is in the database, and sets aside one that ingest refuses."""
        batch, is_refused, why = answer.partition(" ")
        name = BatchName.parse(batch)
        if name is None:
            logger.error("an answer of ingest names no batch: %.80r", answer)
            return
        if not is_refused:
            self._spool.remove(name)
        elif path := self._spool.set_aside(name, REFUSED):
            logger.error("ingest refuses a batch, which is set aside as %s: %.300r", path, why)
        sent = self._sent.pop(name, None)
        if sent is None:
            return  # sent before we were started
        for other in self._sent.values():
            # Later in, yet out before: the other one is not in the queue any more. The first sending counts for
            # the answered one, as its answer may be that to any of its sendings.
            if other.queue == sent.queue and other.last_order < sent.first_order:
                other.overtaken = True

    def _send_new(self) -> int:
        self._list_unsent()
        window = Counter(name.shard for name in self._sent)
        done = 0
        for shard, names in self._unsent.items():
            while names and window[shard] < WINDOW:
                name = names[0]
                data = self._read(name)
                if data is not None:
                    queue = ingest_queue(name.shard_id, self._queues)
                    self._ingest.send(queue, name, data)
                    self._sendings += 1
                    self._sent[name] = _Sent(queue, self._sendings, self._sendings, self._monotonic_ns())
                    window[shard] += 1
                    done += 1
                names.popleft()
        return done

    def _list_unsent(self) -> None:
        started_ns = self._monotonic_ns()
        if started_ns < self._next_scan_ns:
            return
        unsent: dict[tuple[str, int], deque[BatchName]] = defaultdict(deque)
        for name in self._spool.scan():
            if name not in self._sent:
                unsent[name.shard].append(name)
        self._unsent = unsent
        now_ns = self._monotonic_ns()
        self._next_scan_ns = now_ns + (now_ns - started_ns) * _SCAN_SHARE

    def _send_again(self) -> int:
        done = 0
        for name, sent in sorted(self._sent.items()):
            if not sent.is_due_again(self._monotonic_ns()):
                continue
            data = self._read(name)
            if data is None:
                del self._sent[name]
                continue
            self._ingest.send(sent.queue, name, data)
            logger.info("batch %s was not acknowledged, sent again", name.id)
            self._sendings += 1
            sent.sent_again(self._sendings, self._monotonic_ns())
            done += 1
        return done

    def _observe(self) -> None:
        """Looks at the queues of batches that wait for long, about every second."""
        now_ns = self._monotonic_ns()
        if now_ns - self._observed_ns < _OBSERVE_EVERY_NS:
            return
        self._observed_ns = now_ns
        late = [sent for sent in self._sent.values() if now_ns - sent.sent_ns >= _OBSERVE_EVERY_NS]
        for queue in {sent.queue for sent in late}:
            # In this order: answers between the two are counted as if they were still to come.
            waiting, progress = self._ingest.waiting(queue), self._ingest.progress(queue)
            for sent in late:
                if sent.queue == queue:
                    sent.look(waiting, progress, now_ns)

    def _read(self, name: BatchName) -> bytes | None:
        """The batch's message; None if it is gone, or set aside because it is none (a device lost its power)."""
        try:
            file = self._spool.read(name)
            message = to_message(file)
            self._log(name, file)
        except FileNotFoundError:
            return None
        except MessageError as error:
            logger.error("set aside as %s: %s", self._spool.set_aside(name, BROKEN), error)
            return None
        return message

    def _log(self, name: BatchName, file: bytes) -> None:
        if self._trace_log is None or self._spool.is_marked(name):
            return
        header, records = decode(file)
        try:
            if header.traced:
                self._trace_log.write(header, records)
        except (IndexError, ValueError) as error:  # of a file that lost part of itself, or of another version
            raise MessageError(f"batch {header.id}: its rows cannot be read: {error}") from error
        self._spool.mark(name)
