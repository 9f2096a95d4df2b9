"""The recorder: each row comes back with its times and its host, and counts."""

from __future__ import annotations

from dataclasses import astuple

from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.engine.recorder import Recorder
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.trace_batch import NO_HOST, NO_TIME, ROW_BYTES
from tests.support.records import Row, unpack

HOSTS = [None, "a:1", "b:2", "[::1]:3"]
duration = st.integers(0, 2**60)


@st.composite
def arguments(draw: st.DrawFn) -> tuple:
    """What the engine says of an arrival: its first few times are there, the others not."""
    times = [draw(duration)]
    for _ in range(draw(st.integers(0, 3))):
        times.append(times[-1] + draw(duration))
    return (
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(0, 2**32 - 1)),
        *times,
        *[NO_TIME] * (4 - len(times)),
        draw(st.sampled_from(Outcome)),
        draw(st.integers(0, 999)),
        draw(st.sampled_from(HOSTS)),
        draw(st.integers(0, 2**40)),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(0, 255)),
        draw(st.integers(0, 1)),
    )


@settings(deadline=None)
@given(st.lists(arguments(), max_size=20))
def test_rows_come_back_with_their_times_and_hosts(rows: list[tuple]) -> None:
    recorder = Recorder()
    for values in rows:
        recorder.row(*values)

    records, hosts = recorder.take()
    found = unpack(records)

    assert [(*astuple(record)[:8], *astuple(record)[10:]) for record in found] == [row[:8] + row[10:] for row in rows]
    assert [None if record.host == NO_HOST else hosts[record.host] for record in found] == [row[8] for row in rows]
    assert [record.size for record in found] == [row[9] for row in rows]
    counters = recorder.counters(0, 0)
    assert counters.rows == len(rows)
    assert counters.bytes_received == sum(row[9] for row in rows)
    assert counters.completed == sum(row[6] == Outcome.COMPLETED for row in rows)


def test_many_rows_are_kept_in_order_and_taken_once() -> None:
    recorder = Recorder()
    for first, last in ((0, 5000), (5000, 5001), (5001, 5001), (5001, 9000)):
        for client in range(first, last):
            recorder.row(client, 0, 0, NO_TIME, NO_TIME, NO_TIME, Outcome.LATE, 0, None, 0, 1)
        records, _ = recorder.take()
        assert [record.client for record in unpack(records)] == list(range(first, last))
    assert recorder.counters(0, 0).late == 9000


def test_cut_arrivals_follow_the_earlier_rows() -> None:
    recorder = Recorder()
    recorder.row(1, 2, 3, 4, 5, 6, Outcome.COMPLETED, 200, "a:1", 7, 8)
    recorder.cut([(100 + number, number, 9) for number in range(3000)])

    records, hosts = recorder.take()

    assert records.nbytes == 3001 * ROW_BYTES
    first, *cut = unpack(records)
    assert first == Row(1, 2, 3, 4, 5, 6, Outcome.COMPLETED, 200, 0, 7, 8)
    assert cut == [Row(number, 9, 100 + number, outcome=Outcome.CUT) for number in range(3000)]
    assert hosts == ["a:1"]
    assert (recorder.cut_rows, recorder.counters(0, 0).cut) == (3000, 3000)


def test_each_batch_has_hosts_of_its_own() -> None:
    recorder = Recorder()
    for host in ("a:1", "b:2"):
        recorder.row(0, 0, 0, 1, 2, 3, Outcome.COMPLETED, 200, host, 0, 1)
        records, hosts = recorder.take()
        assert (unpack(records)[0].host, hosts) == (0, [host])
