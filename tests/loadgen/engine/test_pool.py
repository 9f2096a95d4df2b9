"""The pool when a connect is interrupted at the worst moment."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from loadgen.engine.dialer import Dialer
from loadgen.engine.pool import HostPool, Pool
from loadgen.engine.recorder import Recorder
from loadgen.engine.wire import Wire
from tests.loadgen.engine.harness import unpack

WIRE = Wire(b"GET / HTTP/1.1\r\nX-Request-Id: g.", b"\r\n\r\n", 10**9, False)


class DeafTransport(asyncio.Transport):
    def write(self, data: Any) -> None:
        return

    def close(self) -> None:
        return

    def abort(self) -> None:
        return


class InterruptedDialer:
    """Opens a connection, and is timed out before it can say so: uvloop then closes it without a word."""

    async def connect(self, protocol: Callable[[], asyncio.Protocol], _timeout_s: float | None) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            protocol().connection_made(DeafTransport({"socket": ours}))
        raise TimeoutError


def test_a_connect_that_is_interrupted_just_now_leaves_no_connection_behind() -> None:
    recorder = Recorder()

    async def scenario() -> Pool:
        pool = Pool(recorder, lambda: 0, 1.0, max_connections=100)
        host = pool.hosts["h:1"] = HostPool(pool, "h:1", cast(Dialer, InterruptedDialer()))
        pool.in_flight += 1
        host.send(0, 0, 0, 0, 1, WIRE)
        await asyncio.sleep(0.01)
        assert pool.connections == set()
        await asyncio.wait_for(pool.close(), 5)
        return pool

    pool = asyncio.run(scenario())
    assert (pool.in_flight, pool.openings) == (0, 0)
    assert len(unpack(*recorder.take())) == 1


class TakingDownDialer:
    """Takes down the time-outs that connects get, and never connects."""

    def __init__(self) -> None:
        self.timeouts_s: list[float | None] = []

    async def connect(self, _protocol: Callable[[], asyncio.Protocol], timeout_s: float | None) -> None:
        self.timeouts_s.append(timeout_s)
        await asyncio.sleep(3600)


def test_each_connect_has_the_time_out_of_the_request_that_it_is_opened_for() -> None:
    async def scenario() -> list[float | None]:
        pool = Pool(Recorder(), lambda: 0, 1.0, max_connections=100)
        dialer = TakingDownDialer()
        host = pool.hosts["h:1"] = HostPool(pool, "h:1", cast(Dialer, dialer))
        for sequence, timeout_s in enumerate((0.1, 30.0, None)):
            pool.in_flight += 1
            host.send(0, 0, 0, sequence, 1, WIRE._replace(connect_timeout_s=timeout_s))
        await asyncio.sleep(0.01)
        await asyncio.wait_for(pool.close(), 5)
        return dialer.timeouts_s

    assert asyncio.run(scenario()) == [0.1, 30.0, None]


def test_a_pool_that_was_given_no_end_sends_at_any_time_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)  # as of a 32-bit Python: two seconds
    assert Pool(Recorder(), lambda: 0, 1.0, max_connections=100).send_until_ns > 100 * 366 * 86400 * 10**9
