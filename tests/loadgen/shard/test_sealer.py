"""Sealing: when, in what pieces, with which numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadgen.device.spool import BatchName, Spool
from loadgen.engine import EngineGauges
from loadgen.engine.end import FINISHED, STOPPED
from loadgen.engine.stalls import AppTime, Stall, StallWatch
from loadgen.protocol.messages import Counters
from loadgen.protocol.trace_batch import Capture, decode, decode_captures
from loadgen.shard.sealer import ATTEMPT_ROW_BITS, MAX_ROWS, Sealer, split
from tests.support.records import Row, pack, unpack
from tests.support.shards import order_of

MS = 1_000_000


class FakeEngine:
    """Has recorded what `record` was told."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.stalls = StallWatch(AppTime(), lambda: 0, 1)
        self._records = b""
        self.captures: list[Capture] = []

    def record(self, rows: int) -> None:
        self._records += b"".join(pack(Row(client, 0, 0)) for client in range(rows))
        self.counters = replace(self.counters, planned=self.counters.planned + rows, rows=self.counters.rows + rows)

    def take(self) -> tuple[memoryview, list[str]]:
        taken, self._records = self._records, b""
        return memoryview(taken), ["h"]

    def take_captures(self) -> list[Capture]:
        taken, self.captures = self.captures, []
        return taken

    def take_gauges(self) -> EngineGauges:
        app_time = AppTime(lambda: 0)
        app_time.total_ns = 70
        app_time.slow_ns = app_time.longest_ns = 60
        return EngineGauges(3, 2, Stall(11, 1, 5, 2, 1, 1), app_time, 4)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 1 << 30)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def sealer(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Sealer:
    monkeypatch.setattr("loadgen.shard.sealer.time.monotonic_ns", lambda: 0)
    return Sealer(order_of(1, "g", attempt=3), "w", spool)


def headers(spool: Spool) -> list:
    return [decode(spool.read(name))[0] for name in spool.scan()]


def test_rows_are_sealed_after_250_ms_and_no_rows_after_1_s(sealer, spool, engine) -> None:
    assert not sealer.seal_if_due(engine, 999 * MS)
    engine.record(5)
    assert sealer.seal_if_due(engine, 999 * MS)
    assert not sealer.seal_if_due(engine, 1300 * MS)
    engine.record(1)
    assert not sealer.seal_if_due(engine, 1248 * MS)
    assert sealer.seal_if_due(engine, 1249 * MS)
    assert not sealer.seal_if_due(engine, 2248 * MS)
    assert sealer.seal_if_due(engine, 2249 * MS)

    assert [header.rows for header in headers(spool)] == [5, 1, 0]


def test_many_rows_are_sealed_at_once(sealer, spool, engine) -> None:
    engine.record(MAX_ROWS)

    assert sealer.seal_if_due(engine, MS)
    assert max(spool.scan().values()) <= 516 << 10


def test_row_numbers_of_attempts_do_not_overlap(sealer, spool, engine) -> None:
    for rows in (3, 0, 2):
        engine.record(rows)
        sealer.seal(engine, 0)

    first = 2 << ATTEMPT_ROW_BITS
    assert [(header.number, header.first_row) for header in headers(spool)] == [
        (0, first),
        (1, first + 3),
        (2, first + 3),
    ]


def test_a_batch_is_named_by_group_shard_attempt_and_number(sealer, spool, engine) -> None:
    sealer.seal(engine, 0)

    (header,) = headers(spool)
    assert list(spool.scan()) == [BatchName("g", 1, 3, 0)]
    assert header.id == "g.1.3.0"


def test_long_rest_of_a_plan_is_split_into_batches(sealer, spool, engine) -> None:
    engine.record(2 * MAX_ROWS + 1)

    sealer.seal(engine, 0, end=STOPPED)

    sealed = headers(spool)
    assert [(header.rows, header.final, header.reason) for header in sealed] == [
        (MAX_ROWS, False, ""),
        (MAX_ROWS, False, ""),
        (1, True, "stopped"),
    ]
    assert {header.counters.rows for header in sealed} == {2 * MAX_ROWS + 1}


def test_the_final_batch_is_sealed_without_rows_too(sealer, spool, engine) -> None:
    sealer.seal(engine, 0, end=FINISHED)

    assert [(header.rows, header.final) for header in headers(spool)] == [(0, True)]


def test_unwritable_batch_is_written_later_in_order(sealer, spool, engine, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    engine.record(1)
    with monkeypatch.context() as full:
        full.setattr(Spool, "write", refuse)
        sealer.seal(engine, 0)
        assert sealer.error == "spool: a batch cannot be written: No space left on device"
    engine.record(2)
    sealer.seal(engine, 0)

    assert [(header.number, header.rows) for header in headers(spool)] == [(0, 1), (1, 2)]


def test_split_keeps_the_rows_in_order() -> None:
    records = b"".join(pack(Row(client, 0, 0)) for client in range(5))

    assert [[row.client for row in unpack(part)] for part in split(memoryview(records), 2)] == [[0, 1], [2, 3], [4]]
    assert [len(part) for part in split(memoryview(b""), 2)] == [0]


def test_the_header_says_how_long_the_loop_stood_still_and_why(sealer, spool, engine) -> None:
    sealer.seal(engine, 0)

    gauges = headers(spool)[0].gauges
    stall = ("stall_waited_ns", "stall_app_ns", "stall_collecting_ns", "stall_sealing_ns", "stall_own_ns")
    assert (gauges.max_stall_ns, *(getattr(gauges, name) for name in stall)) == (11, 1, 5, 2, 1, 1)
    assert (gauges.app_ns, gauges.slow_app_ns, gauges.longest_app_ns, gauges.pool_waits) == (70, 60, 60, 4)


def test_the_time_of_a_seal_is_told_to_the_engine(sealer, engine, monkeypatch) -> None:
    clock = iter(range(0, 100, 7))
    monkeypatch.setattr("loadgen.shard.sealer.time.monotonic_ns", lambda: next(clock))
    sealer.seal(engine, 0)
    assert engine.stalls.sealing_ns >= 7


def test_process_account_counts_from_the_loads_start(sealer, spool, engine) -> None:
    sealer.seal(engine, 0)
    sealer.account.look_around()
    sealer.account.begin()
    sum(range(100_000))
    sealer.seal(engine, 0)
    before, after = (header.gauges for header in headers(spool))
    assert before.cpu_ns == before.wait_ns == before.others_ns == before.stolen_ns == 0
    assert 0 < after.cpu_ns < 1_000_000_000


def test_captures_go_with_the_batch_that_holds_their_row(sealer: Sealer, spool: Spool, engine: FakeEngine) -> None:
    engine.record(MAX_ROWS + 2)
    engine.captures = [Capture(row, b"%d" % row, b"") for row in (0, MAX_ROWS - 1, MAX_ROWS + 1)]
    sealer.seal(engine, 0)
    files = [spool.read(name) for name in spool.scan()]
    found = [decode_captures(decode(file)[0], file) for file in files]
    assert found == [
        [Capture(0, b"0", b""), Capture(MAX_ROWS - 1, b"%d" % (MAX_ROWS - 1), b"")],
        [Capture(1, b"%d" % (MAX_ROWS + 1), b"")],
    ]


def test_what_is_not_to_be_stored_goes_without_captures(sealer: Sealer, spool: Spool, engine: FakeEngine) -> None:
    for sealer.traced in (False, True):
        engine.record(1)
        engine.captures = [Capture(0, b"q", b"r")]
        sealer.seal(engine, 0)
    paused, resumed = (spool.read(name) for name in spool.scan())
    header, _ = decode(paused)
    assert (header.traced, header.rows, decode_captures(header, paused)) == (False, 1, [])
    header, _ = decode(resumed)
    assert (header.traced, decode_captures(header, resumed)) == (True, [Capture(0, b"q", b"r")])
