"""The pool when a connect is interrupted at the worst moment."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from loadgen.engine.http.dialer import Dialer
from loadgen.engine.http.pool import HostPool, Pool
from loadgen.engine.http.tls import TlsOptions
from loadgen.engine.http.wire_request import RedirectState, WireRequest
from loadgen.engine.recorder import Recorder
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.harness import unpack

WIRE = WireRequest(b"GET / HTTP/1.1\r\nX-Request-Id: g.", b"\r\n\r\n", 10**9, False)


class DeafTransport(asyncio.Transport):
    def write(self, data: Any) -> None:
        return

    def close(self) -> None:
        return

    def abort(self) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return 0


class InterruptedDialer:
    """Opens a connection, and is timed out before it can say so: uvloop then closes it without a word."""

    is_named = False

    async def connect(self, protocol: Callable[[], asyncio.Protocol], _timeout_s: float | None) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            protocol().connection_made(DeafTransport({"socket": ours}))
        raise TimeoutError


def test_a_cancelled_connect_leaves_no_connection() -> None:
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
    assert (pool.in_flight, pool.opening) == (0, 0)
    assert len(unpack(*recorder.take())) == 1


class TakingDownDialer:
    """Takes down the time-outs that connects get, and never connects."""

    is_named = False

    def __init__(self) -> None:
        self.timeouts_s: list[float | None] = []

    async def connect(self, _protocol: Callable[[], asyncio.Protocol], timeout_s: float | None) -> None:
        self.timeouts_s.append(timeout_s)
        await asyncio.sleep(3600)


def test_a_connect_has_the_time_out_of_its_queued_request() -> None:
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


def test_a_pool_without_an_end_sends_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)  # as of a 32-bit Python: two seconds
    assert Pool(Recorder(), lambda: 0, 1.0, max_connections=100).send_until_ns > 100 * 366 * 86400 * 10**9


def waits(*wires: WireRequest, at_s: list[float], max_per_host: int = sys.maxsize) -> list[list[int]]:
    """The sequence numbers of those whose waits have ended at each of these times; connects take for ever."""
    recorder = Recorder()

    async def scenario() -> list[list[int]]:
        pool = Pool(recorder, lambda: 0, 5.0, max_connections=100, max_per_host=max_per_host)
        host = pool.hosts["h:1"] = HostPool(pool, "h:1", cast(Dialer, TakingDownDialer()))
        for sequence, wire in enumerate(wires):
            pool.in_flight += 1
            host.send(0, 0, 0, sequence, 1, wire)
        await asyncio.sleep(0.01)
        ended = []
        for time_s in at_s:
            pool.sweep(round(time_s * 1e9))
            rows = unpack(*recorder.take())
            assert {row.outcome for row in rows} <= {Outcome.CONNECT_TIMEOUT}
            ended.append([row.sequence for row in rows])
        await asyncio.wait_for(pool.close(), 5)
        return ended

    return asyncio.run(scenario())


def test_a_connect_may_take_longer_than_a_response() -> None:
    assert waits(WIRE, WIRE, at_s=[1, 4.9, 5]) == [[], [], [0, 1]]  # time-outs of 5 s and 1 s


def test_a_shorter_wait_ends_before_an_earlier_longer_one() -> None:
    long = WIRE._replace(timeout_ns=10**10, connect_timeout_s=0.1)
    short = WIRE._replace(connect_timeout_s=0.1)
    assert waits(long, short, long, short, at_s=[0.9, 1, 2, 10], max_per_host=1) == [[], [1, 3], [], [0, 2]]


class OnceDialer:
    """Connects at once, to nobody."""

    is_named = False

    def __init__(self) -> None:
        self.protocol: asyncio.Protocol | None = None

    async def connect(self, protocol: Callable[[], asyncio.Protocol], _timeout_s: float | None) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.protocol = protocol()
            self.protocol.connection_made(DeafTransport({"socket": ours}))


def answered(wire: WireRequest, *pieces: bytes) -> tuple[int, Pool]:
    """The outcome of a request whose response comes in these pieces."""
    recorder = Recorder()

    async def scenario() -> Pool:
        pool, dialer = Pool(recorder, lambda: 0, 5.0, max_connections=100), OnceDialer()
        host = pool.hosts["h:1"] = HostPool(pool, "h:1", cast(Dialer, dialer))
        pool.in_flight += 1
        host.send(0, 0, 0, 0, 1, wire)
        await asyncio.sleep(0.01)
        assert dialer.protocol is not None
        for piece in pieces:
            dialer.protocol.data_received(piece)
        dialer.protocol.connection_lost(None)
        return pool

    pool = asyncio.run(scenario())
    (row,) = unpack(*recorder.take())
    return row.outcome, pool


@pytest.mark.parametrize(("length", "outcome"), [(60_000, Outcome.COMPLETED), (70_000, Outcome.MALFORMED)])
@pytest.mark.parametrize("at", [None, 100, 65_000, 65_535])
def test_a_head_is_too_long_or_not_however_it_comes(length: int, outcome: Outcome, at: int | None) -> None:
    response = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * length + b"\r\nContent-Length: 8\r\n\r\nok\r\n\r\nok"
    pieces = [response] if at is None else [response[:at], response[at:]]
    assert answered(WIRE, *pieces)[0] == outcome


def test_a_head_that_leads_nowhere_is_known_when_it_comes_again() -> None:
    head = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"
    follow = RedirectState("http://h:1", 0, None, own_host=False, tls=TlsOptions())
    outcome, pool = answered(WIRE._replace(redirects=follow), head)
    assert outcome == Outcome.COMPLETED
    assert head in pool.known_heads.heads


@pytest.mark.parametrize("bodiless", [False, True])
def test_a_known_chunked_head_is_followed_by_chunks(bodiless: bool) -> None:
    """As the first response of that head; one to HEAD has no chunks."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"" if bodiless else b"2\r\nok\r\n3\r\nabc\r\n0\r\n\r\n"
    recorder = Recorder()

    async def scenario() -> None:
        pool = Pool(recorder, lambda: 0, 5.0, max_connections=100)
        host = pool.hosts["h:1"] = HostPool(pool, "h:1", cast(Dialer, OnceDialer()))
        pool.in_flight += 5
        host.send(0, 0, 0, 0, 1, WIRE._replace(bodiless=bodiless))
        await asyncio.sleep(0.01)
        (connection,) = pool.connections
        response = head + body
        splits = [len(response), len(head) - 3, len(head), len(response) - 3, len(response) - 20]
        for sequence, at in enumerate(splits):
            assert (head in pool.known_heads.heads) == (sequence > 0)
            if sequence:
                connection.write(connection.load(0, 0, sequence, 1, WIRE._replace(bodiless=bodiless)), 0)
            for piece in filter(None, (response[:at], response[at:])):
                connection.data_received(piece)
            assert connection in host.idle
        await pool.close()

    asyncio.run(scenario())
    assert [(row.outcome, row.status, row.size) for row in unpack(*recorder.take())] == [
        (Outcome.COMPLETED, 200, 0 if bodiless else 5)
    ] * 5


@pytest.mark.parametrize(("is_full", "resent"), [(True, False), (False, True)])
def test_post_is_resent_only_if_the_socket_refused_it(is_full: bool, resent: bool) -> None:
    """A full buffer refuses nothing: the transport sends the request later, and the server may execute it."""
    recorder = Recorder()

    async def scenario() -> Pool:
        pool = Pool(recorder, lambda: 0, 5.0, max_connections=100)
        host = pool.hosts["h:1"] = HostPool(pool, "h:1", cast(Dialer, TakingDownDialer()))
        connection = pool.connection_kind(host)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            host._opening = pool.opening = 1
            connection.connection_made(DeafTransport({"socket": ours}))
            pool.in_flight += 2
            post = WIRE._replace(head=WIRE.head.replace(b"GET", b"POST"))
            host.send(0, 0, 0, 0, 1, post)
            theirs.recv(1 << 16)
            connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            if is_full:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        ours.send(b"x" * (1 << 16))
            else:
                theirs.close()
            host.send(0, 0, 0, 1, 1, post)
            connection.connection_lost(ConnectionResetError())
        assert len(host._resends) == resent
        await asyncio.wait_for(pool.close(), 5)
        return pool

    asyncio.run(scenario())
    rows = unpack(*recorder.take())
    assert [(row.outcome, row.resent) for row in rows] == [
        (Outcome.COMPLETED, 0),
        (Outcome.ABORTED, 1) if resent else (Outcome.RESET, 0),
    ]
