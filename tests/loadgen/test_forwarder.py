"""The forwarder's rules, with a fake clock and a fake ingest; the files are real."""

from collections import deque
from itertools import pairwise
from pathlib import Path

import pytest

from loadgen.batch import Columns, decode, decompress, encode
from loadgen.forwarder import WINDOW, BrokerAwayError, Forwarder
from loadgen.messages import BatchHeader, Counters, Gauges
from loadgen.spool import BatchName, Spool

SECOND = 1_000_000_000


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


class FakeIngest:
    """A broker with queues that hold what was sent, until the test takes it."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.queued: deque[str] = deque()
        self.acknowledged: list[str] = []
        self.counter = 0
        self.away = False

    def send(self, queue: str, name: BatchName, data: bytes) -> None:
        self._reach()
        header, _ = decode(decompress(data))
        assert (header.shard_id, header.number) == (name.shard_id, name.number)
        self.sent.append(name.id)
        self.queued.append(name.id)

    def pop_acknowledged(self, wait_s: float) -> list[str]:
        self._reach()
        popped, self.acknowledged = self.acknowledged, []
        return popped

    def progress(self, queue: str) -> int:
        self._reach()
        return self.counter

    def waiting(self, queue: str) -> int:
        self._reach()
        return len(self.queued)

    def work_off(self, batches: int = 1) -> None:
        for _ in range(batches):
            self.acknowledged.append(self.queued.popleft())
            self.counter += 1

    def _reach(self) -> None:
        if self.away:
            raise BrokerAwayError("away")


def seal(spool: Spool, number: int, shard_id: int = 1) -> None:
    header = BatchHeader(shard_id, 1, "g", None, "w", number, 0, 0, 0, [], Counters(), Gauges())
    spool.write(BatchName(shard_id, 1, number), encode(header, Columns()))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 1 << 20)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ingest() -> FakeIngest:
    return FakeIngest()


@pytest.fixture
def forwarder(spool: Spool, ingest: FakeIngest, clock: Clock) -> Forwarder:
    return Forwarder(spool, ingest, 1, clock)


def step_for(forwarder: Forwarder, clock: Clock, seconds: int) -> None:
    """One step each second, as the agent does while it waits."""
    for _ in range(seconds):
        clock.pass_s(1)
        forwarder.step()


def test_batches_of_a_shard_are_sent_in_order_at_most_eight_unacknowledged(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest
) -> None:
    for number in reversed(range(12)):
        seal(spool, number)
    seal(spool, 0, shard_id=2)

    forwarder.step()
    assert ingest.sent == [f"1.1.{number}" for number in range(WINDOW)] + ["2.1.0"]

    ingest.work_off(3)
    forwarder.step()
    assert ingest.sent[9:] == ["1.1.8", "1.1.9", "1.1.10"]


def test_a_file_is_deleted_only_once_it_is_acknowledged(forwarder: Forwarder, spool: Spool, ingest: FakeIngest) -> None:
    seal(spool, 0)
    forwarder.step()
    assert spool.scan()

    ingest.work_off()
    forwarder.step()
    assert not spool.scan()
    assert forwarder.unacknowledged == 0


def test_an_unacknowledged_batch_is_sent_again_with_growing_pauses(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock
) -> None:
    seal(spool, 0)
    sent_at = []
    for second in range(200):
        before = len(ingest.sent)
        forwarder.step()
        ingest.queued.clear()  # the broker forgets it
        if len(ingest.sent) > before:
            sent_at.append(second)
        clock.pass_s(1)

    pauses = [later - earlier for earlier, later in pairwise(sent_at)]
    assert pauses == sorted(pauses)
    assert 5 <= pauses[0] <= 7
    assert pauses[-1] <= 62
    assert len(sent_at) == 7


def test_nothing_is_sent_again_while_the_queue_is_being_worked_off(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock
) -> None:
    seal(spool, 0)
    ingest.queued.extend(f"9.1.{number}" for number in range(100))  # another worker's, before ours
    forwarder.step()

    for _ in range(60):
        clock.pass_s(1)
        ingest.queued.popleft()
        ingest.counter += 1
        forwarder.step()
    assert ingest.sent == ["1.1.0"]

    step_for(forwarder, clock, 6)  # ingest stands still, so ours may be lost
    assert ingest.sent == ["1.1.0", "1.1.0"]


def test_a_batch_that_a_later_one_overtook_is_sent_again_at_once(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest
) -> None:
    for number in range(3):
        seal(spool, number)
    forwarder.step()
    ingest.queued.remove("1.1.1")  # the broker lost it

    ingest.work_off(2)
    forwarder.step()

    assert ingest.sent == ["1.1.0", "1.1.1", "1.1.2", "1.1.1"]
    ingest.work_off()
    forwarder.step()
    assert not spool.scan()


def test_a_batch_is_lost_when_its_queue_was_empty_though_other_workers_keep_ingest_busy(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock
) -> None:
    seal(spool, 0)
    forwarder.step()
    ingest.queued.clear()

    for _ in range(7):
        ingest.counter += 1
        step_for(forwarder, clock, 1)

    assert ingest.sent == ["1.1.0", "1.1.0"]


def test_what_an_earlier_run_left_is_forwarded(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    for number in range(2):
        seal(spool, number)
    Forwarder(spool, ingest, 1, clock).step()  # and killed
    ingest.work_off()

    successor = Forwarder(spool, ingest, 1, clock)
    successor.step()
    assert ingest.sent == ["1.1.0", "1.1.1"] * 2
    successor.step()  # takes the acknowledgement that the first one waited for
    assert list(spool.scan()) == [BatchName(1, 1, 1)]


def test_nothing_is_lost_while_the_broker_is_away(forwarder: Forwarder, spool: Spool, ingest: FakeIngest) -> None:
    seal(spool, 0)
    ingest.away = True
    for _ in range(3):
        with pytest.raises(BrokerAwayError):
            forwarder.step()
    assert ingest.sent == []

    ingest.away = False
    forwarder.step()
    ingest.work_off()
    forwarder.step()
    assert ingest.sent == ["1.1.0"]
    assert not spool.scan()


def test_a_file_that_is_no_batch_is_set_aside_and_does_not_block_the_others(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest
) -> None:
    spool.write(BatchName(1, 1, 0), b"")
    seal(spool, 1)

    forwarder.step()

    assert ingest.sent == ["1.1.1"]
    assert (spool.directory / "1.1.0.broken").exists()


def test_strange_acknowledgements_do_no_harm(forwarder: Forwarder, spool: Spool, ingest: FakeIngest) -> None:
    seal(spool, 0)
    forwarder.step()
    ingest.acknowledged = ["../../etc/passwd", "", "7.7.7", "1.1"]

    forwarder.step()

    assert list(spool.scan()) == [BatchName(1, 1, 0)]


def test_shards_go_to_their_own_ingest_queues(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    queues = []
    ingest.send = lambda queue, name, data: queues.append((queue, name.shard_id))  # type: ignore[method-assign]
    for shard_id in range(4):
        seal(spool, 0, shard_id)

    Forwarder(spool, ingest, 2, clock).step()

    assert sorted(queues) == [(f"galileo.ingest.{shard % 2}", shard) for shard in (0, 2, 1, 3)]
