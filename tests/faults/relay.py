"""A go-between on the way to ingest, which delivers trace batches as a bad network would.

worker → galileo.ingest.0 → relay → galileo.ingest.1 → ingest
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from types import TracebackType
from typing import Any

from kombu import Connection, Message, Producer

from loadgen.broker.options import SOCKET_OPTIONS, queue
from loadgen.protocol.keys import ingest_queue

SOURCE, SINK = ingest_queue(0, 1), "galileo.ingest.1"
_TURN_S = 0.1
_END_S = 10.0

# Takes what has newly come, and whether this is the last time; returns what is to be delivered now.
Rule = Callable[[list[Message], bool], list[Message]]


class Relay:
    """Moves messages from SOURCE to SINK as its rule says; a context manager."""

    def __init__(self, url: str, rule: Rule) -> None:
        self._url = url
        self._rule = rule
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self.error: BaseException | None = None

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delivers what is left, and ends; raises what has ended it before."""
        self._ended.set()
        self._thread.join(_END_S)
        if self.error is not None:
            raise RuntimeError("the relay has failed") from self.error

    def _run(self) -> None:
        try:
            with Connection(self._url, transport_options=SOCKET_OPTIONS) as connection:
                self._move(connection)
        except Exception as error:  # noqa: BLE001 - told by whoever ends the relay
            self.error = error

    def _move(self, connection: Any) -> None:
        taken: list[Message] = []

        def take(message: Message) -> None:
            message.ack()
            taken.append(message)

        producer = connection.Producer()
        with connection.Consumer([queue(SOURCE)], on_message=take):
            is_last = False
            while not is_last:
                is_last = self._ended.is_set()
                try:
                    connection.drain_events(timeout=_TURN_S)
                except TimeoutError:
                    pass
                for message in self._rule(taken, is_last):
                    _deliver(producer, message)
                taken.clear()


def twice(new: list[Message], _is_last: bool) -> list[Message]:
    """Every message twice."""
    return [message for message in new for _ in range(2)]


class Shuffled:
    """Collects for a while, and delivers in a random order; `moved` counts those that overtook another."""

    def __init__(self, source: random.Random, collect_s: float = 1.5) -> None:
        self.moved = 0
        self._random = source
        self._collect_s = collect_s
        self._held: list[Message] = []
        self._due_s = 0.0

    def __call__(self, new: list[Message], is_last: bool) -> list[Message]:
        if new and not self._held:
            self._due_s = time.monotonic() + self._collect_s
        self._held += new
        if not is_last and time.monotonic() < self._due_s:
            return []
        order = list(range(len(self._held)))
        self._random.shuffle(order)
        self.moved += sum(after < before for before, after in pairwise(order))
        held, self._held = self._held, []
        return [held[index] for index in order]


class HeldBack:
    """Keeps the `number`-th batch that comes, with all its repetitions, until `release`."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._names: list[str] = []
        self._held: list[Message] = []
        self._released = threading.Event()

    def release(self) -> None:
        self._released.set()

    def __call__(self, new: list[Message], is_last: bool) -> list[Message]:
        if is_last:
            self._released.set()
        for message in new:
            name = str(message.headers["argsrepr"])  # (<batch …, n bytes>,)
            if name not in self._names:
                self._names.append(name)
        withheld = self._names[self._number - 1 : self._number]
        held: list[Message] = []
        passing: list[Message] = []
        for message in [*self._held, *new]:
            is_held = message.headers["argsrepr"] in withheld and not self._released.is_set()
            (held if is_held else passing).append(message)
        self._held = held
        return passing


def _deliver(producer: Producer, message: Message) -> None:
    producer.publish(
        message.body,
        exchange=SINK,
        routing_key=SINK,
        declare=[queue(SINK)],
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=message.headers,
        correlation_id=message.properties["correlation_id"],
        reply_to=message.properties.get("reply_to", ""),
    )
