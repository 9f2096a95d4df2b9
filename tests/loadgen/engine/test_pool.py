"""The pool when a connect is interrupted at the worst moment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

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
