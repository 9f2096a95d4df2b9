"""The open executor's decisions, on a clock that only moves when a test says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest

from loadgen.engine.errors import AppError
from loadgen.engine.executors.base import ARRIVALS_PER_TURN, TURN_NS, ExecutorContext
from loadgen.engine.executors.open import OpenExecutor
from loadgen.engine.http.connection import Connection
from loadgen.engine.http.pool import HostPool, Pool
from loadgen.engine.http.wire_request import FirstRequest, QueuedRequest, WireRequest
from loadgen.engine.recorder import Recorder
from loadgen.engine.routes import Routes
from loadgen.engine.stalls import AppTime
from loadgen.protocol.enums import CookieMode
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.harness import Row, record, unpack

SECOND = 1_000_000_000
WIRE = WireRequest(b"", b"", 30 * SECOND, False)


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class FakeConnection(Connection):
    """Idle until it is loaded; tells the host of both, in order."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host

    def load(
        self,
        intended_ns: int,
        client: int,
        sequence: int,
        version: int,
        wire: WireRequest,
        first: FirstRequest | None = None,
    ) -> bytes:
        self.host.loaded.append(intended_ns)
        return b"%d" % intended_ns

    def write(self, data: bytes, dispatched_ns: int) -> int:
        assert len(self.host.loaded) > len(self.host.written)
        self.host.written.append((int(data), dispatched_ns, len(self.host.loaded)))
        self.host.clock.now_ns += self.host.takes_ns
        return self.host.clock.now_ns


class FakeHost:
    """Takes requests, which stay in flight; each costs `takes_ns` of the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sent: list[tuple[int, ...]] = []
        self.takes_ns = 10_000
        self.idle: dict[FakeConnection, None] = {}
        self.loaded: list[int] = []
        self.written: list[tuple[int, int, int]] = []  # intended, dispatched, and how many had been loaded by then
        self.queue: list[QueuedRequest] = []

    def enqueue(self, request: QueuedRequest) -> None:
        self.queue.append(request)

    def take_idle(self, now_ns: int) -> FakeConnection | None:
        return self.idle.popitem()[0] if self.idle else None

    def send(
        self, intended_ns: int, dispatched_ns: int, client: int, sequence: int, version: int, wire: WireRequest
    ) -> int:
        self.sent.append((intended_ns, dispatched_ns, client, sequence, version))
        self.clock.now_ns += self.takes_ns
        return self.clock.now_ns


class FakeSource:
    wants_responses = False
    cookie_mode: CookieMode | None = None

    def __init__(self, fails_at: int = -1, *, is_static: bool = False) -> None:
        self.app_time = AppTime()
        self.is_static = is_static
        self.left = fails_at
        self.skipped: list[int] = []

    async def prepare(self) -> None:
        return

    def next_request(self, client: int, host: str) -> WireRequest:
        self.left -= 1
        if self.left == -1:
            raise AppError("no more")
        return WIRE

    def skip_request(self, client: int) -> None:
        self.skipped.append(client)

    def on_response(self, client: int, status: int, data: bytes, history: tuple[bytes, ...]) -> None:
        return

    def close(self) -> None:
        return


class Bench:
    def __init__(
        self,
        arrivals: Iterable[int],
        max_in_flight: int = 1000,
        source: FakeSource | None = None,
        routed: bool = True,
        process: str = "constant",
    ) -> None:
        self.clock = Clock()
        self.recorder = Recorder()
        self.pool = Pool(self.recorder, self.clock, 1.0, max_connections=100)
        self.host = FakeHost(self.clock)
        self.pool.hosts["a:1"] = cast(HostPool, self.host)
        self.routes = Routes("service")
        if routed:
            self.routes.update(record("a:1", version=3))
        plan = [(intended_ns, index % 2, index // 2) for index, intended_ns in enumerate(arrivals)]
        context = ExecutorContext(
            workload=WorkloadSpec(
                0, "service", [], max_lateness_s=1.0, max_in_flight=max_in_flight, arrival_process=process
            ),
            clients=range(2),
            seed=1,
            total_clients=2,
            first_sequence=0,
            source=source or FakeSource(),
            routes=self.routes,
            pool=self.pool,
            recorder=self.recorder,
            arm=lambda at_ns: None,
            on_error=lambda error: None,
        )
        self.executor = OpenExecutor(context, iter(plan))

    def idle(self, connections: int) -> None:
        self.host.idle = {FakeConnection(self.host): None for _ in range(connections)}

    def at(self, now_ns: int) -> int | None:
        self.clock.now_ns = now_ns
        return self.executor.turn()

    def rows(self) -> list[Row]:
        return unpack(*self.recorder.take())


def test_a_turn_sends_due_arrivals_and_returns_the_next_time() -> None:
    bench = Bench([100, 200, 300_000])
    assert bench.executor.start(0) == 100
    assert bench.at(99) == 100
    assert bench.host.sent == []
    assert bench.at(200) == 300_000
    assert [sent[0] for sent in bench.host.sent] == [100, 200]
    assert bench.at(300_000) is None
    assert bench.at(400_000) is None
    assert bench.rows() == []
    assert bench.pool.in_flight == 3


def test_an_arrival_is_dispatched_after_the_previous_is_sent() -> None:
    bench = Bench([100, 200])
    bench.executor.start(0)
    bench.at(1000)
    assert bench.host.sent == [(100, 1000, 0, 0, 3), (200, 11_000, 1, 0, 3)]


def test_a_turn_loads_all_requests_before_writing_any() -> None:
    bench = Bench([0, 20_000, 30_000, 40_000, 50_000, SECOND], source=FakeSource(is_static=True))
    bench.executor.start(0)
    bench.at(0)  # the first of all asks the source
    bench.idle(3)
    assert bench.at(500_000) == SECOND
    # Each is dispatched when the one before it was sent, and all had been loaded when the first of them was.
    assert bench.host.written == [(20_000, 500_000, 3), (30_000, 510_000, 3), (40_000, 520_000, 3)]
    assert [(queued.intended_ns, queued.dispatched_ns) for queued in bench.host.queue] == [(50_000, 500_000)]
    assert bench.host.idle == {}
    assert bench.pool.in_flight == 5


def test_loaded_requests_are_written_despite_a_later_app_error() -> None:
    bench = Bench([0, 20_000, 30_000, 40_000, 50_000], source=FakeSource(fails_at=1, is_static=True))
    bench.routes.next = lambda client, sequence: "b:1" if (client, sequence) == (1, 1) else "a:1"
    bench.executor.start(0)
    bench.at(0)
    bench.idle(3)
    with pytest.raises(AppError, match="no more"):
        bench.at(500_000)
    assert [(row.outcome, row.intended_ns) for row in bench.rows()] == [(Outcome.CUT, 40_000)]
    assert [written[0] for written in bench.host.written] == [20_000, 30_000]
    assert bench.pool.in_flight == 3


def test_what_becomes_due_during_a_turn_is_sent_in_it() -> None:
    bench = Bench([100, 10_050])
    bench.executor.start(0)
    assert bench.at(100) is None
    assert len(bench.host.sent) == 2


def test_an_arrival_beyond_max_lateness_is_not_sent() -> None:
    bench = Bench([0, 1, SECOND, 2 * SECOND])
    bench.executor.start(0)
    assert bench.at(SECOND + 1) == 2 * SECOND  # the first is late by 1 ns
    assert [sent[0] for sent in bench.host.sent] == [1, SECOND]
    (late,) = bench.rows()
    assert (late.outcome, late.intended_ns, late.dispatched_ns) == (Outcome.LATE, 0, SECOND + 1)
    assert (late.sent_ns, late.done_ns, late.host) == (-1, -1, None)


def test_a_turn_is_bounded_so_that_responses_are_read_in_between() -> None:
    bench = Bench(range(3 * ARRIVALS_PER_TURN))
    bench.executor.start(0)
    assert bench.at(1_000_000) == ARRIVALS_PER_TURN
    assert len(bench.host.sent) == ARRIVALS_PER_TURN
    assert bench.at(2_000_000) == 2 * ARRIVALS_PER_TURN
    assert bench.at(3_000_000) is None


def test_a_dropped_arrival_takes_no_hosts_turn() -> None:
    bench = Bench([1, 2, 3], max_in_flight=2)
    bench.executor.start(0)
    bench.at(10)
    assert len(bench.host.sent) == 2
    assert [(row.outcome, row.host) for row in bench.rows()] == [(Outcome.DROPPED, None)]
    assert bench.pool.in_flight == 2


@pytest.mark.parametrize(("process", "skipped"), [("prerecorded", [0, 1, 0]), ("constant", []), ("expovariate", [])])
def test_a_replayed_request_that_is_not_sent_is_skipped(process: str, skipped: list[int]) -> None:
    """The k-th request of a recording goes at the k-th time, or not at all."""
    source = FakeSource()
    bench = Bench([1, 50_000, 60_000, 2 * SECOND, 2 * SECOND + 1], max_in_flight=2, source=source, process=process)
    bench.executor.start(0)
    bench.at(SECOND + 2)  # the first is late, the second and the third are in flight then
    bench.at(2 * SECOND)
    bench.routes.update(None)
    bench.pool.in_flight = 0
    bench.at(2 * SECOND + 100)
    assert [(row.outcome, row.client) for row in bench.rows()] == [
        (Outcome.LATE, 0),
        (Outcome.DROPPED, 1),
        (Outcome.NO_ROUTE, 0),
    ]
    assert source.skipped == skipped


def test_a_takeover_skips_the_requests_of_passed_times() -> None:
    source = FakeSource()
    bench = Bench([1, 2, 3, 4], source=source, process="prerecorded")
    assert not bench.executor.skip(3, 10)
    assert (source.skipped, bench.recorder.skipped) == ([0, 1], 2)


def test_skipping_yields_to_the_loop_while_an_app_is_slow() -> None:
    class SlowSource(FakeSource):
        def skip_request(self, client: int) -> None:
            super().skip_request(client)
            bench.clock.now_ns += TURN_NS // 3 + 1

    source = SlowSource()
    bench = Bench(range(8), source=source, process="prerecorded")
    skipped = []
    while bench.executor.skip(SECOND, 10_000):
        skipped.append(len(source.skipped))
    assert skipped == [3, 6]
    assert bench.recorder.skipped == len(source.skipped) == 8


def test_without_a_route_arrivals_are_recorded_as_such() -> None:
    bench = Bench([1, 2], routed=False)
    bench.executor.start(0)
    bench.at(10)
    assert [row.outcome for row in bench.rows()] == [Outcome.NO_ROUTE] * 2
    assert bench.pool.in_flight == 0


def test_the_arrival_that_meets_a_wrong_source_is_cut() -> None:
    bench = Bench([1, 2, 3], source=FakeSource(fails_at=1))
    bench.executor.start(0)
    with pytest.raises(AppError, match="no more"):
        bench.at(10)
    assert [row.outcome for row in bench.rows()] == [Outcome.CUT]
    assert not bench.executor.cut(10)
    assert [(row.outcome, row.intended_ns) for row in bench.rows()] == [(Outcome.CUT, 3)]


def test_the_rest_of_a_plan_is_cut_in_parts() -> None:
    bench = Bench(range(0, 10 * SECOND, SECOND))
    bench.executor.start(0)
    bench.at(0)
    parts = []
    more = True
    while more:
        more = bench.executor.cut(4)
        parts.append([row.intended_ns // SECOND for row in bench.rows()])
    assert parts == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]
    assert not bench.executor.cut(4)


def test_counters_agree_with_each_other_at_any_time() -> None:
    bench = Bench([1, 2, 3, 4], max_in_flight=3)
    bench.executor.start(0)
    bench.at(10)
    counters: Any = bench.recorder.counters(in_flight=3, outstanding=2)
    assert (counters.planned, counters.rows, counters.sent, counters.dropped) == (4, 1, 2, 1)


def test_a_slow_source_does_not_keep_the_loop_for_a_whole_turn() -> None:
    bench = Bench([0] * 64)
    bench.executor.start(0)
    bench.host.takes_ns = 400_000
    assert bench.at(0) == 0  # to be called again at once
    assert len(bench.host.sent) == 3


def test_slow_writes_reduce_the_arrivals_per_turn() -> None:
    bench = Bench(range(1000), source=FakeSource(is_static=True))
    bench.executor.start(0)
    bench.idle(1000)

    def turns(takes_ns: int, number: int) -> list[int]:
        """How many were sent in each of the next turns."""
        bench.host.takes_ns = takes_ns
        sent = []
        for _ in range(number):
            before = len(bench.host.written)
            bench.at(bench.clock.now_ns)
            sent.append(len(bench.host.written) - before)
        return sent

    bench.at(10_000)  # the first of all asks the source
    assert turns(200_000, 6) == [32, 16, 8, 4, 5, 6]
    assert turns(1_000, 40)[-1] == ARRIVALS_PER_TURN
