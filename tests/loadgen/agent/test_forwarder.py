"""The forwarder's rules, with a fake clock and a fake ingest; the files are real."""

from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loadgen.agent.forwarder import WINDOW, BrokerAwayError, Forwarder
from loadgen.device.spool import BROKEN, BatchName, Spool
from loadgen.protocol.messages import BatchHeader, Counters, Gauges
from loadgen.protocol.trace_batch import MESSAGE_MAGIC, decode, encode_header, unpack_message

SECOND = 1_000_000_000


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


class FakeIngest:
    """A broker whose queues hold the batches until the test takes them."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.queued: deque[str] = deque()
        self.answers: list[str] = []
        self.counter = 0
        self.away = False

    def send(self, queue: str, name: BatchName, data: bytes) -> None:
        self._reach()
        header, _ = decode(unpack_message(data), MESSAGE_MAGIC)
        assert (header.shard_id, header.number) == (name.shard_id, name.number)
        self.sent.append(name.id)
        self.queued.append(name.id)

    def pop_answers(self, wait_s: float) -> list[str]:
        self._reach()
        popped, self.answers = self.answers, []
        return popped

    def progress(self, queue: str) -> int:
        self._reach()
        return self.counter

    def waiting(self, queue: str) -> int:
        self._reach()
        return len(self.queued)

    def work_off(self, batches: int = 1) -> None:
        for _ in range(batches):
            self.answers.append(self.queued.popleft())
            self.counter += 1

    def fail(self) -> None:
        """Drops the batches of the queue without an answer, as ingest does while the database is away."""
        self.queued.clear()

    def work_off_all(self) -> None:
        self.work_off(len(self.queued))

    def _reach(self) -> None:
        if self.away:
            raise BrokerAwayError("away")


def seal(spool: Spool, number: int, shard_id: int = 1, group_id: str = "g", *, traced: bool = True) -> None:
    header = BatchHeader(shard_id, 1, group_id, None, "w", number, 0, 0, 0, [], Counters(), Gauges(), traced=traced)
    spool.write(BatchName(group_id, shard_id, 1, number), encode_header(header))


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
    """Makes one step each second, as the waiting agent does."""
    for _ in range(seconds):
        clock.pass_s(1)
        forwarder.step()


def test_a_shard_has_at_most_eight_unacknowledged_batches(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest
) -> None:
    for number in reversed(range(12)):
        seal(spool, number)
    seal(spool, 0, shard_id=2)

    forwarder.step()
    assert ingest.sent == [f"g.1.1.{number}" for number in range(WINDOW)] + ["g.2.1.0"]

    ingest.work_off(3)
    forwarder.step()
    assert ingest.sent[9:] == ["g.1.1.8", "g.1.1.9", "g.1.1.10"]


def test_a_file_is_deleted_only_once_it_is_acknowledged(forwarder: Forwarder, spool: Spool, ingest: FakeIngest) -> None:
    seal(spool, 0)
    forwarder.step()
    assert spool.scan()

    ingest.work_off()
    forwarder.step()
    assert not spool.scan()
    assert forwarder.unacknowledged == 0


def test_a_lost_batch_is_sent_again_with_growing_pauses(
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
    assert 10 <= pauses[1] <= 12
    assert all(15 <= pause <= 17 for pause in pauses[2:])
    assert len(sent_at) == 14


def test_nothing_is_sent_again_while_it_waits_in_its_queue(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock
) -> None:
    seal(spool, 0)
    ingest.queued.extend(f"g.9.1.{number}" for number in range(100))  # another worker's batch, sent earlier
    forwarder.step()

    for _ in range(60):
        ingest.work_off()
        step_for(forwarder, clock, 1)
    step_for(forwarder, clock, 600)  # ingest is down
    assert ingest.sent == ["g.1.1.0"]

    ingest.work_off_all()
    forwarder.step()
    assert not spool.scan()


def test_a_batch_is_lost_once_its_whole_queue_is_answered(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock
) -> None:
    seal(spool, 0)
    forwarder.step()
    ingest.fail()
    ingest.queued.extend(f"g.9.1.{number}" for number in range(50))  # other workers keep it full

    for _ in range(49):
        clock.pass_s(1)
        ingest.work_off()
        ingest.queued.append("g.9.1.0")
        forwarder.step()
    assert ingest.sent == ["g.1.1.0"], "it may be the last of those that were in the queue"

    ingest.work_off(3)
    step_for(forwarder, clock, 6)
    assert ingest.sent == ["g.1.1.0", "g.1.1.0"]


def test_a_broker_that_lost_its_memory_gets_everything_again(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock
) -> None:
    seal(spool, 0)
    ingest.counter = 5000
    forwarder.step()
    ingest.queued.extend(f"g.9.1.{number}" for number in range(50))
    step_for(forwarder, clock, 3)

    ingest.counter = 0
    ingest.queued.clear()
    for _ in range(20):
        ingest.queued.append("g.9.1.0")  # the queue is never seen empty, and far from where it was
        ingest.queued.append("g.9.1.0")
        step_for(forwarder, clock, 1)
        ingest.work_off()

    assert ingest.sent == ["g.1.1.0", "g.1.1.0"]


@pytest.mark.parametrize("away_s", [30, 600])
def test_batches_arrive_soon_after_the_database_is_back(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock, away_s: int
) -> None:
    for second in range(away_s):
        if second % 5 == 0:
            seal(spool, second)
        step_for(forwarder, clock, 1)
        ingest.fail()
    assert len(ingest.sent) <= WINDOW * (3 + away_s / 15)

    waited_s = 0
    while spool.scan():
        ingest.work_off_all()
        step_for(forwarder, clock, 1)
        waited_s += 1
    assert waited_s <= 17 + away_s / 5 / WINDOW + 1  # the longest pause, then a window at each step


def test_a_batch_that_a_later_one_overtook_is_sent_again_at_once(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest
) -> None:
    for number in range(3):
        seal(spool, number)
    forwarder.step()
    ingest.queued.remove("g.1.1.1")  # the broker lost it

    ingest.work_off(2)
    forwarder.step()

    assert ingest.sent == ["g.1.1.0", "g.1.1.1", "g.1.1.2", "g.1.1.1"]
    ingest.work_off()
    forwarder.step()
    assert not spool.scan()


def test_a_batch_that_cannot_be_stored_is_seldom_sent_again(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock
) -> None:
    for second in range(120):
        seal(spool, second)
        step_for(forwarder, clock, 1)
        while "g.1.1.0" in ingest.queued:
            ingest.queued.remove("g.1.1.0")
        ingest.work_off_all()

    assert 8 <= ingest.sent.count("g.1.1.0") <= 11
    assert len(spool.scan()) <= 2, "it does not hold up the others"


def test_a_batch_is_lost_when_its_queue_was_empty(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock
) -> None:
    seal(spool, 0)
    forwarder.step()
    ingest.queued.clear()

    for _ in range(7):
        ingest.counter += 1
        step_for(forwarder, clock, 1)

    assert ingest.sent == ["g.1.1.0", "g.1.1.0"]


def test_what_an_earlier_run_left_is_forwarded(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    for number in range(2):
        seal(spool, number)
    Forwarder(spool, ingest, 1, clock).step()  # and killed
    ingest.work_off()

    successor = Forwarder(spool, ingest, 1, clock)
    successor.step()  # takes the acknowledgement that the first one waited for, too
    assert ingest.sent == ["g.1.1.0", "g.1.1.1", "g.1.1.1"]
    assert list(spool.scan()) == [BatchName("g", 1, 1, 1)]


def test_an_answer_that_nobody_waits_for_does_not_stay_for_long(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, clock: Clock
) -> None:
    seal(spool, 0)
    forwarder.step()
    ingest.work_off()
    forwarder.step()
    ingest.answers.append("g.1.1.0")  # it was delivered twice

    for _ in range(3):
        step_for(forwarder, clock, 1)

    assert ingest.answers == []


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
    assert ingest.sent == ["g.1.1.0"]
    assert not spool.scan()


def test_an_invalid_file_is_set_aside_and_blocks_no_other(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest
) -> None:
    spool.write(BatchName("g", 1, 1, 0), b"")
    seal(spool, 1)

    forwarder.step()

    assert ingest.sent == ["g.1.1.1"]
    assert (spool.directory / "g.1.1.0.broken").exists()


def test_a_refused_batch_is_set_aside_and_blocks_no_other(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(WINDOW + 1):
        seal(spool, number)
    forwarder.step()

    ingest.answers = ["g.1.1.0 batch: version 2 is unknown"] * 2
    forwarder.step()

    assert ingest.sent[-1] == f"g.1.1.{WINDOW}"
    assert [name.number for name in spool.scan()] == list(range(1, WINDOW + 1))
    assert (spool.directory / "g.1.1.0.refused").exists()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "g.1.1.0.refused" in record.getMessage()
    assert "version 2 is unknown" in record.getMessage()


def test_strange_answers_do_no_harm(forwarder: Forwarder, spool: Spool, ingest: FakeIngest) -> None:
    seal(spool, 0)
    forwarder.step()
    ingest.answers = [
        "../../etc/passwd",
        "",
        " ",
        "g.7.7.7",
        "g.7.7.7 unknown",
        "g.1.1",
        "g.1.1.00",
        "1.1.0",
        "h.1.1.0",
    ]

    forwarder.step()

    assert list(spool.scan()) == [BatchName("g", 1, 1, 0)]
    assert forwarder.unacknowledged == 1


def test_an_answer_to_another_databases_shard_deletes_nothing(
    forwarder: Forwarder, spool: Spool, ingest: FakeIngest
) -> None:
    seal(spool, 0, group_id="202611220101-old1.0")
    seal(spool, 0, group_id="202611220102-new1.0")
    forwarder.step()
    assert len(ingest.sent) == 2

    ingest.work_off()
    forwarder.step()

    assert list(spool.scan()) == [BatchName("202611220102-new1.0", 1, 1, 0)]


def test_a_long_spool_is_not_listed_at_every_step(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    class SlowSpool(Spool):
        scans = 0

        def scan(self) -> dict[BatchName, int]:
            self.scans += 1
            clock.pass_s(0.1)
            return super().scan()

    slow = SlowSpool(spool.directory, 1 << 20)
    for number in range(4 * WINDOW):
        seal(slow, number)
    forwarder = Forwarder(slow, ingest, 1, clock)

    for _ in range(4):
        forwarder.step()
        ingest.work_off_all()
        clock.pass_s(0.25)
    assert len(ingest.sent) == 4 * WINDOW
    assert slow.scans == 1

    clock.pass_s(1.1)
    forwarder.step()
    assert slow.scans == 2


def test_shards_go_to_their_own_ingest_queues(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    queues = []
    ingest.send = lambda queue, name, data: queues.append((queue, name.shard_id))  # type: ignore[method-assign]
    for shard_id in range(4):
        seal(spool, 0, shard_id)

    Forwarder(spool, ingest, 2, clock).step()

    assert sorted(queues) == [(f"galileo.ingest.{shard % 2}", shard) for shard in (0, 2, 1, 3)]


class FakeLog:
    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.away = False

    def write(self, header: BatchHeader, records: bytes) -> None:
        if self.away:
            raise BrokerAwayError("away")
        self.numbers.append(header.number)


def test_each_batch_is_logged_once_however_often_it_is_sent(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    log = FakeLog()
    forwarder = Forwarder(spool, ingest, 1, clock, log)
    for number in range(3):
        seal(spool, number)
    forwarder.step()
    ingest.fail()
    step_for(forwarder, clock, 60)
    assert len(ingest.sent) > 3

    Forwarder(spool, ingest, 1, clock, log).step()  # an agent that was started again

    assert log.numbers == [0, 1, 2]


def test_a_batch_that_is_not_traced_is_sent_but_not_logged(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    log = FakeLog()
    for number in range(4):
        seal(spool, number, traced=number % 2 == 0)
    Forwarder(spool, ingest, 1, clock, log).step()
    assert log.numbers == [0, 2]
    assert len(ingest.sent) == 4


def test_a_batch_is_logged_once_before_it_is_sent(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    log = FakeLog()
    forwarder = Forwarder(spool, ingest, 1, clock, log)
    seal(spool, 0)
    ingest.away = True
    with pytest.raises(BrokerAwayError):
        forwarder.step()
    ingest.away = False
    clock.pass_s(1)
    forwarder.step()
    assert (log.numbers, ingest.sent) == ([0], ["g.1.1.0"])


def test_a_batch_that_the_log_did_not_take_is_given_to_it_again(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    log = FakeLog()
    forwarder = Forwarder(spool, ingest, 1, clock, log)
    seal(spool, 0)
    log.away = True
    with pytest.raises(BrokerAwayError):
        forwarder.step()
    assert ingest.sent == []
    log.away = False
    clock.pass_s(1)
    forwarder.step()
    assert (log.numbers, ingest.sent) == ([0], ["g.1.1.0"])


def test_a_batch_with_unreadable_rows_is_set_aside(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    class Log(FakeLog):
        def write(self, header: BatchHeader, records: bytes) -> None:
            if header.number == 0:
                raise IndexError("list index out of range")
            super().write(header, records)

    log = Log()
    for number in range(2):
        seal(spool, number)
    Forwarder(spool, ingest, 1, clock, log).step()
    assert (log.numbers, ingest.sent) == ([1], ["g.1.1.1"])
    assert len(list(spool.directory.glob(f"*{BROKEN}"))) == 1


def test_without_access_rights_a_mark_lives_as_long_as_the_agent(
    spool: Spool, ingest: FakeIngest, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    log = FakeLog()
    forwarder = Forwarder(spool, ingest, 1, clock, log)
    seal(spool, 0)
    forwarder.step()
    ingest.fail()
    step_for(forwarder, clock, 60)
    assert len(ingest.sent) > 1
    assert log.numbers == [0]


def test_a_logged_batch_is_removed_when_it_is_acknowledged(spool: Spool, ingest: FakeIngest, clock: Clock) -> None:
    forwarder = Forwarder(spool, ingest, 1, clock, FakeLog())
    seal(spool, 0)
    forwarder.step()
    ingest.work_off_all()
    forwarder.step()
    assert not spool.scan()
