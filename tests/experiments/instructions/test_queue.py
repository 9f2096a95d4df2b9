"""The lists in Redis: first in first out, one ticket for each instruction, and nothing lost in between."""

from __future__ import annotations

import pytest
import redis

from experiments.instructions.message import MAX_BYTES
from experiments.instructions.queue import InstructionQueue
from loadgen.protocol.keys import INSTRUCTIONS_KEY, INSTRUCTIONS_PROCESSING_KEY


@pytest.fixture
def queue(broker: redis.Redis) -> InstructionQueue:
    return InstructionQueue(broker)


def lengths(broker: redis.Redis) -> tuple[int, int]:
    return int(broker.llen(INSTRUCTIONS_KEY)), int(broker.llen(INSTRUCTIONS_PROCESSING_KEY))


def test_the_oldest_comes_first(broker: redis.Redis, queue: InstructionQueue) -> None:
    for pushed in (b"one", b"two", b"three"):
        broker.lpush(INSTRUCTIONS_KEY, pushed)
    found = []
    for _ in range(3):
        queue.wait(1)
        entry = queue.oldest()
        assert entry is not None
        found.append(entry.pushed)
        queue.remove(entry)
    assert found == [b"one", b"two", b"three"]
    assert lengths(broker) == (0, 0)


def test_what_was_taken_stays_until_it_is_removed_and_keeps_its_ticket(
    broker: redis.Redis, queue: InstructionQueue
) -> None:
    broker.lpush(INSTRUCTIONS_KEY, b"one")
    queue.wait(1)
    assert lengths(broker) == (0, 1)
    first, again = queue.oldest(), InstructionQueue(broker).oldest()
    assert first is not None
    assert first == again
    queue.remove(first)
    InstructionQueue(broker).remove(first)  # the other one, which comes late
    assert lengths(broker) == (0, 0)


def test_two_pushes_of_the_same_text_are_two_instructions(broker: redis.Redis, queue: InstructionQueue) -> None:
    broker.lpush(INSTRUCTIONS_KEY, b"same", b"same")
    queue.wait(1)
    queue.wait(1)
    first = queue.oldest()
    assert first is not None
    queue.remove(first)
    second = queue.oldest()
    assert second is not None
    assert (first.pushed, second.pushed) == (b"same", b"same")
    assert first.ticket != second.ticket
    assert lengths(broker) == (0, 1)


def test_an_empty_queue_gives_nothing(broker: redis.Redis, queue: InstructionQueue) -> None:
    assert queue.oldest() is None


def test_what_is_too_large_is_cut_off_before_it_is_read(broker: redis.Redis, queue: InstructionQueue) -> None:
    broker.lpush(INSTRUCTIONS_KEY, b"x" * (MAX_BYTES + 1000))
    queue.wait(1)
    entry = queue.oldest()
    assert entry is not None
    assert len(entry.pushed) == MAX_BYTES + 1
    queue.remove(entry)
    assert lengths(broker) == (0, 0)


@pytest.mark.parametrize(
    "pushed",
    [b"", b"ticket:", b"ticket:12:x", b"ticket:" + b"A" * 32 + b":x", b"\xff\x00\n{", b"ticket:\n" + b"0" * 40],
)
def test_whatever_was_pushed_comes_out_as_it_was(broker: redis.Redis, queue: InstructionQueue, pushed: bytes) -> None:
    broker.lpush(INSTRUCTIONS_KEY, pushed)
    queue.wait(1)
    entry = queue.oldest()
    assert entry is not None
    assert entry.pushed == pushed
