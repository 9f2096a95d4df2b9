"""The engine's small parts: time-outs, heads of responses, hosts, timers, errors of connects, the collector."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import time

import pytest

from loadgen.engine.deadlines import NEVER, Deadlines
from loadgen.engine.garbage import GarbageCollection
from loadgen.engine.http.dialer import connect_outcome, split_host
from loadgen.engine.timer import LoopTimer, Timer, TimerFd
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run


class Request:
    """Stands for a connection with a request."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self.deadline_ns = NEVER
        self.queued_ns = NEVER
        self.timed_out: list[int] = []

    def send(self, deadline_ns: int) -> None:
        self.deadline_ns = deadline_ns
        if deadline_ns < self.queued_ns:
            self.deadlines.queue(self)

    def time_out(self) -> None:
        self.timed_out.append(self.deadline_ns)
        self.deadline_ns = NEVER


def test_a_request_times_out_once_when_its_deadline_has_come() -> None:
    deadlines = Deadlines()
    request = Request(deadlines)
    request.send(100)
    for now in (99, 100, 101, 1000):
        deadlines.sweep(now)
    assert request.timed_out == [100]
    assert len(deadlines) == 0


def test_an_answered_request_does_not_time_out() -> None:
    deadlines = Deadlines()
    request = Request(deadlines)
    for deadline_ns in (100, 150, 180):
        request.send(deadline_ns)
        assert len(deadlines) == 1
    deadlines.sweep(179)
    assert request.timed_out == []
    deadlines.sweep(180)
    assert request.timed_out == [180]


def test_a_shorter_time_out_than_the_last_ones_is_kept() -> None:
    deadlines = Deadlines()
    request = Request(deadlines)
    request.send(1000)
    request.send(50)
    deadlines.sweep(50)
    assert request.timed_out == [50]
    request.send(1000)
    deadlines.sweep(1000)
    assert request.timed_out == [50, 1000]


def test_an_idle_connection_is_not_in_the_deadline_heap() -> None:
    deadlines = Deadlines()
    request = Request(deadlines)
    request.send(100)
    request.deadline_ns = NEVER
    deadlines.sweep(100)
    assert len(deadlines) == 0
    request.send(200)
    deadlines.sweep(200)
    assert request.timed_out == [200]


def test_closed_connections_are_forgotten_before_their_time() -> None:
    deadlines = Deadlines()
    requests = [Request(deadlines) for _ in range(5000)]
    for request in requests:
        request.send(1000)
    for request in requests[10:]:
        request.deadline_ns = NEVER
    deadlines.forget_closed(10)
    assert len(deadlines) == 10
    requests[20].send(1000)  # a connection that was only idle
    deadlines.sweep(1000)
    assert [number for number, request in enumerate(requests) if request.timed_out] == [*range(10), 20]


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("pi", "pi", 80),
        ("pi:8080", "pi", 8080),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[::1]", "::1", 80),
        ("[fe80::1]:8080", "fe80::1", 8080),
    ],
)
def test_a_host_names_an_address_and_a_port(host: str, name: str, port: int) -> None:
    assert split_host(host) == (name, port)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), Outcome.CONNECT_REFUSED),
        (TimeoutError(), Outcome.CONNECT_TIMEOUT),
        (OSError(errno.ETIMEDOUT, ""), Outcome.CONNECT_TIMEOUT),
        (socket.gaierror(-2, "unknown"), Outcome.CONNECT_DNS),
        (UnicodeError("label too long"), Outcome.CONNECT_DNS),
        (OSError(errno.EMFILE, ""), Outcome.CONNECT_NO_DESCRIPTOR),
        (OSError(errno.ENFILE, ""), Outcome.CONNECT_NO_DESCRIPTOR),
        (OSError(errno.EADDRNOTAVAIL, ""), Outcome.CONNECT_NO_PORT),
        (OSError(errno.EHOSTUNREACH, ""), Outcome.CONNECT_OTHER),
        (OSError("Multiple exceptions"), Outcome.CONNECT_OTHER),
        (ValueError("port"), Outcome.CONNECT_OTHER),
    ],
)
def test_a_failed_connect_has_an_outcome_by_its_cause(error: Exception, outcome: Outcome) -> None:
    assert connect_outcome(error) is outcome


def test_a_near_time_is_polled_for_without_arming_again(run: Run[None]) -> None:
    async def scenario() -> None:
        calls: list[int] = []
        due = 0

        def called() -> None:
            nonlocal due
            calls.append(time.monotonic_ns())
            if len(calls) == 1:
                due = calls[0] + 10_000
            if due <= calls[-1]:
                timer.disarm()
            else:
                timer.arm_again(due)

        timer = TimerFd(asyncio.get_running_loop(), called)
        timer.arm(1)
        await asyncio.sleep(0.05)
        assert len(calls) >= 2
        assert calls[-1] >= due > calls[-2]
        timer.arm(1)
        number = len(calls)
        await asyncio.sleep(0.05)
        assert len(calls) == number + 1
        timer.close()

    run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TimerFd, LoopTimer])
def test_a_timer_calls_back_once_per_arming_and_not_early(run: Run[None], kind: type) -> None:
    async def scenario() -> None:
        calls: list[int] = []

        def called() -> None:
            calls.append(time.monotonic_ns())
            if len(calls) == 1:
                timer.arm(1)  # long ago: at once
            else:
                timer.disarm()
                done.set()

        done = asyncio.Event()
        timer: Timer = kind(asyncio.get_running_loop(), called)
        due = time.monotonic_ns() + 20_000_000
        timer.arm(due)
        timer.arm(due)
        await asyncio.wait_for(done.wait(), 10)
        await asyncio.sleep(0.03)
        assert len(calls) == 2
        assert calls[0] >= due - 1_000_000  # a loop's own timer rounds
        timer.arm(time.monotonic_ns() + 5_000_000)
        timer.disarm()
        timer.arm(time.monotonic_ns() + 5_000_000)
        timer.close()
        timer.close()
        await asyncio.sleep(0.03)
        assert len(calls) == 2

    run(scenario())


def test_the_collector_is_disabled_only_during_a_run() -> None:
    collector = GarbageCollection()
    frozen = gc.get_freeze_count()
    collector.collect()
    collector.freeze()
    collector.freeze()
    try:
        assert not gc.isenabled()
        assert gc.get_freeze_count() > frozen
        for _ in range(60_000):
            cycle: list[object] = []
            cycle.append(cycle)
        collector.collect_if_due()
        assert gc.get_count()[0] < 50_000
    finally:
        collector.thaw()
        collector.thaw()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
