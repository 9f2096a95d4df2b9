"""Forwarder: sends sealed batches from the spool to ingest, and deletes each once it is acknowledged.

Its state is the files: after it was killed, it sends batches again, and ingest acknowledges those that it has stored
already. Ingest's queues are first in, first out. A batch is sent again only when its queue cannot contain it any more,
so that an ingest that was down finds each batch once, even after a long time.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from loadgen.device.spool import BROKEN, REFUSED, BatchName, Spool
from loadgen.protocol.codec import MessageError
from loadgen.protocol.keys import ingest_queue
from loadgen.protocol.messages import BatchHeader
from loadgen.protocol.trace_batch import WINDOW, decode, to_message

logger = logging.getLogger(__name__)

# Ingest drops batches while the database is away. Once that is back, the controller waits 60 s for the batches of an
# experiment that ends, so the longest pause is well below.
RESEND_AFTER_NS, RESEND_AFTER_MAX_NS = 5_000_000_000, 15_000_000_000
_OBSERVE_EVERY_NS = 1_000_000_000
_IDLE_LOOK_EVERY_NS = 2_000_000_000
_SCAN_SHARE = 20  # at most 1/20 of the time is spent listing the spool, which may hold the batches of hours


class BrokerAwayError(Exception):
    """The broker cannot be reached; try again later."""


class Ingest(Protocol):
    """The connection to ingest. Each method raises BrokerAwayError when the broker cannot be reached."""

    def send(self, queue: str, name: BatchName, data: bytes) -> None:
        """Sends a compressed batch as one message."""

    def pop_answers(self, wait_s: float) -> list[str]:
        """Returns the answers of ingest (keys.ack_key); waits up to `wait_s` for the first."""

    def progress(self, queue: str) -> int:
        """Returns the number of batches of the queue that ingest has answered."""

    def waiting(self, queue: str) -> int:
        """Returns the number of batches in the queue."""


class TraceLog(Protocol):
    """A destination of traces besides ingest. Raises BrokerAwayError when it cannot be reached."""

    def write(self, header: BatchHeader, records: bytes) -> None: ...


@dataclass
class _Sent:
    """A batch that was sent and has no answer yet."""

    queue: str
    first_order: int  # numbers of its first and last sending, among all sendings of the forwarder
    last_order: int
    sent_ns: int
    tries: int = 1
    # Since the last sending:
    overtaken: bool = False
    seen_at: int = -1  # ingest's progress at the first look at the queue
    passed_at: int = 0  # ingest's progress at which all batches of that moment are answered
    left_queue_ns: int | None = None  # when the queue was first known not to contain it

    def look(self, waiting: int, progress: int, now_ns: int) -> None:
        """Notes the number of batches in its queue, and ingest's progress."""
        if self.seen_at < 0 or progress < self.seen_at:  # the counter restarts with a new broker
            self.seen_at, self.passed_at = progress, progress + waiting + 1  # and one that ingest is storing
        if self.left_queue_ns is None and (waiting == 0 or progress >= self.passed_at):
            self.left_queue_ns = now_ns

    def is_due_again(self, now_ns: int) -> bool:
        if self.overtaken and self.tries == 1:
            return True
        pause_ns = min(RESEND_AFTER_NS << (self.tries - 1), RESEND_AFTER_MAX_NS)
        # A batch that ingest cannot store is overtaken repeatedly; it is sent again at once only the first time.
        since_ns = self.sent_ns if self.overtaken else self.left_queue_ns
        return since_ns is not None and now_ns - since_ns >= pause_ns

    def sent_again(self, order: int, now_ns: int) -> None:
        self.last_order, self.sent_ns, self.tries = order, now_ns, self.tries + 1
        self.overtaken, self.seen_at, self.passed_at, self.left_queue_ns = False, -1, 0, None


class Forwarder:
    """One worker's forwarder. Not thread-safe: one thread calls `step`.

    Args:
        queues: the number of ingest queues.
        trace_log: gets each batch of a traced group once, before it is sent.
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
        self._unsent: dict[tuple[str, int], deque[BatchName]] = {}  # by shard, as listed last
        self._next_scan_ns = 0

    @property
    def unacknowledged(self) -> int:
        """The number of batches that were sent and have no answer yet."""
        return len(self._sent)

    def step(self, wait_s: float = 0.0) -> int:
        """Reads answers, sends new batches, sends lost ones again. Returns the number of answers and sendings.

        Raises:
            BrokerAwayError: nothing is lost; call again later.
        """
        done = 0
        now_ns = self._monotonic_ns()
        # Answers that nothing waits for, such as a second one to the same batch, are read from time to time.
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
        """Deletes a batch that ingest has stored, and sets aside one that it refuses."""
        batch, is_refused, why = answer.partition(" ")
        name = BatchName.parse(batch)
        if name is None:
            logger.error("an answer of ingest has no batch's name: %.80r", answer)
            return
        if not is_refused:
            self._spool.remove(name)
        elif path := self._spool.set_aside(name, REFUSED):
            logger.error("ingest refuses a batch, which is set aside as %s: %.300r", path, why)
        sent = self._sent.pop(name, None)
        if sent is None:
            return  # an earlier agent has sent it
        for other in self._sent.values():
            # The other batch was sent earlier, so it is not in the queue any more. Of the answered batch, the first
            # sending counts, because the answer may be to any of its sendings.
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
            logger.info("batch %s was not acknowledged and is sent again", name.id)
            self._sendings += 1
            sent.sent_again(self._sendings, self._monotonic_ns())
            done += 1
        return done

    def _observe(self) -> None:
        """Checks the queues of batches that have waited for a second, about once a second."""
        now_ns = self._monotonic_ns()
        if now_ns - self._observed_ns < _OBSERVE_EVERY_NS:
            return
        self._observed_ns = now_ns
        late = [sent for sent in self._sent.values() if now_ns - sent.sent_ns >= _OBSERVE_EVERY_NS]
        for queue in {sent.queue for sent in late}:
            # In this order, so that answers between the two calls count as still to come.
            waiting, progress = self._ingest.waiting(queue), self._ingest.progress(queue)
            for sent in late:
                if sent.queue == queue:
                    sent.look(waiting, progress, now_ns)

    def _read(self, name: BatchName) -> bytes | None:
        """Returns the batch's message, or None if it is missing, or broken by a loss of power and so set aside."""
        try:
            file = self._spool.read(name)
            message = to_message(file)
            self._log(name, file)
        except FileNotFoundError:
            return None
        except MessageError as error:
            logger.error("a batch is set aside as %s: %s", self._spool.set_aside(name, BROKEN), error)
            return None
        return message

    def _log(self, name: BatchName, file: bytes) -> None:
        if self._trace_log is None or self._spool.is_marked(name):
            return
        header, records = decode(file)
        try:
            if header.traced:
                self._trace_log.write(header, records)
        except (IndexError, ValueError) as error:  # an incomplete file, or one of another version
            raise MessageError(f"batch {header.id}: its rows cannot be read: {error}") from error
        self._spool.mark(name)
