"""The lists in Redis: first in first out, one id for each instruction, and nothing is lost."""

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


def test_oldest_instruction_comes_first(broker: redis.Redis, queue: InstructionQueue) -> None:
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


def test_taken_instruction_keeps_its_id_until_removed(broker: redis.Redis, queue: InstructionQueue) -> None:
    broker.lpush(INSTRUCTIONS_KEY, b"one")
    queue.wait(1)
    assert lengths(broker) == (0, 1)
    first, again = queue.oldest(), InstructionQueue(broker).oldest()
    assert first is not None
    assert first == again
    queue.remove(first)
    InstructionQueue(broker).remove(first)  # the other one, which comes late
    assert lengths(broker) == (0, 0)


def test_same_text_pushed_twice_is_two_instructions(broker: redis.Redis, queue: InstructionQueue) -> None:
    broker.lpush(INSTRUCTIONS_KEY, b"same", b"same")
    queue.wait(1)
    queue.wait(1)
    first = queue.oldest()
    assert first is not None
    queue.remove(first)
    second = queue.oldest()
    assert second is not None
    assert (first.pushed, second.pushed) == (b"same", b"same")
    assert first.instruction_id != second.instruction_id
    assert lengths(broker) == (0, 1)


def test_empty_queue_has_no_oldest_instruction(broker: redis.Redis, queue: InstructionQueue) -> None:
    assert queue.oldest() is None


def test_oversized_message_is_truncated_in_redis(broker: redis.Redis, queue: InstructionQueue) -> None:
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
def test_any_bytes_are_returned_unchanged(broker: redis.Redis, queue: InstructionQueue, pushed: bytes) -> None:
    broker.lpush(INSTRUCTIONS_KEY, pushed)
    queue.wait(1)
    entry = queue.oldest()
    assert entry is not None
    assert entry.pushed == pushed
