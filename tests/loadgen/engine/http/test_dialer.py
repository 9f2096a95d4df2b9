"""Look-ups are shared and kept, and an address that does not answer does not hide the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from loadgen.engine.http.dialer import DEFAULT_TLS_PORT, Dialer, connect_outcome, split_host
from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run


class Resolver:
    """A loop with a name server of its own, and a clock that stands still until a test advances it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answers: list[list[str] | Exception]) -> None:
        self._loop = loop
        self._answers = answers
        self.asked = 0
        self.ahead_s = 0.0
        self._begun_s = loop.time()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self._begun_s + self.ahead_s

    async def getaddrinfo(self, name: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        await asyncio.sleep(0.01)
        answer = self._answers[min(self.asked, len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]


class Peer(asyncio.Protocol):
    """Closes its connection at once, and says to which address it went."""

    def __init__(self, peers: list[str]) -> None:
        self._peers = peers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peers.append(transport.get_extra_info("peername")[0])
        transport.close()


async def connect(dialer: Dialer, peers: list[str]) -> Outcome | None:
    """None when connected."""
    try:
        await dialer.connect(lambda: Peer(peers))
    except (OSError, ValueError) as error:
        return connect_outcome(error)
    return None


async def with_server(
    answers: list[list[str] | Exception], scenario: Callable[[Resolver, Dialer, list[str]], Any], timeout_s: float = 5
) -> None:
    """Runs a scenario against a server on 127.0.0.1 whose name is `pi`."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=512)
    async with server:
        resolver = Resolver(loop, answers)
        dialer = Dialer(resolver, f"pi:{server.sockets[0].getsockname()[1]}", timeout_s)  # type: ignore[arg-type]
        await scenario(resolver, dialer, [])
    await asyncio.sleep(0.01)


def test_concurrent_connects_share_one_look_up_until_it_expires(run: Run[None]) -> None:
    async def scenario(resolver: Resolver, dialer: Dialer, peers: list[str]) -> None:
        assert await asyncio.gather(*(connect(dialer, peers) for _ in range(200))) == [None] * 200
        assert resolver.asked == 1
        resolver.ahead_s = 29
        assert await connect(dialer, peers) is None
        assert resolver.asked == 1
        resolver.ahead_s = 31
        assert await asyncio.gather(*(connect(dialer, peers) for _ in range(3))) == [None] * 3
        assert resolver.asked == 2

    run(with_server([["127.0.0.1"]], scenario))


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
def test_a_failed_look_up_is_remembered_for_a_second(run: Run[None], failure: Exception) -> None:
    async def scenario(resolver: Resolver, dialer: Dialer, peers: list[str]) -> None:
        outcomes = await asyncio.gather(*(connect(dialer, peers) for _ in range(200)))
        assert outcomes == [Outcome.CONNECT_DNS] * 200
        assert await connect(dialer, peers) == Outcome.CONNECT_DNS
        assert resolver.asked == 1
        resolver.ahead_s = 1.1
        assert await connect(dialer, peers) is None
        assert resolver.asked == 2

    run(with_server([failure, ["127.0.0.1"]], scenario))


def test_a_host_that_has_moved_is_found_within_a_second(run: Run[None]) -> None:
    async def scenario(resolver: Resolver, dialer: Dialer, peers: list[str]) -> None:
        assert await connect(dialer, peers) == Outcome.CONNECT_REFUSED
        assert await connect(dialer, peers) == Outcome.CONNECT_REFUSED
        assert resolver.asked == 1
        resolver.ahead_s = 1.1
        assert await connect(dialer, peers) is None

    run(with_server([["127.0.0.2"], ["127.0.0.1"]], scenario))


def test_addresses_are_used_in_turn(run: Run[None]) -> None:
    async def scenario(resolver: Resolver, dialer: Dialer, peers: list[str]) -> None:
        others = [
            await asyncio.get_running_loop().create_server(asyncio.Protocol, address, dialer._port)
            for address in ("127.0.0.2", "127.0.0.3")
        ]
        for _ in range(7):
            assert await connect(dialer, peers) is None
        for other in others:
            other.close()

    peers: list[str] = []

    async def kept(resolver: Resolver, dialer: Dialer, _: list[str]) -> None:
        await scenario(resolver, dialer, peers)

    run(with_server([["127.0.0.1", "127.0.0.2", "127.0.0.3"]], kept))
    assert peers[:7] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"] * 2 + ["127.0.0.1"]


def test_an_address_that_refused_comes_last_until_the_look_up(run: Run[None]) -> None:
    async def scenario(resolver: Resolver, dialer: Dialer, peers: list[str]) -> None:
        for _ in range(4):
            assert await connect(dialer, peers) is None
        assert peers == ["127.0.0.1"] * 4
        assert dialer._refusing == {"127.0.0.2"}
        resolver.ahead_s = 31
        assert await connect(dialer, peers) is None
        assert resolver.asked == 2

    run(with_server([["127.0.0.2", "127.0.0.1"]], scenario))


@pytest.mark.slow
def test_a_silent_address_does_not_hide_the_others(run: Run[None]) -> None:
    async def scenario(resolver: Resolver, dialer: Dialer, peers: list[str]) -> None:
        with socket.socket() as hole:
            hole.bind(("127.0.0.3", dialer._port))
            hole.listen(0)
            with socket.create_connection(hole.getsockname()):  # fills the backlog: further SYNs are ignored
                assert await connect(dialer, peers) is None
                assert dialer._refusing == {"127.0.0.3"}

    run(with_server([["127.0.0.3", "127.0.0.1"]], scenario, timeout_s=0.4))


@pytest.mark.slow
def test_a_timed_out_connect_does_not_cancel_the_shared_look_up(run: Run[None]) -> None:
    async def scenario(resolver: Resolver, dialer: Dialer, peers: list[str]) -> None:
        hurried = asyncio.ensure_future(dialer.connect(lambda: Peer(peers), timeout_s=0.001))
        patient = asyncio.ensure_future(connect(dialer, peers))
        with pytest.raises(TimeoutError):
            await hurried
        assert await patient is None
        assert resolver.asked == 1

    run(with_server([["127.0.0.1"]], scenario))


def test_an_address_is_never_looked_up(run: Run[None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "::1", 0)
        async with server:
            resolver = Resolver(loop, [OSError("asked")])
            dialer = Dialer(resolver, f"[::1]:{server.sockets[0].getsockname()[1]}", 5)  # type: ignore[arg-type]
            peers: list[str] = []
            assert await connect(dialer, peers) is None
            assert (peers, resolver.asked) == (["::1"], 0)
        await asyncio.sleep(0.01)

    run(scenario())


def test_the_port_depends_on_the_scheme_where_none_is_named() -> None:
    assert split_host("pi", DEFAULT_TLS_PORT) == ("pi", 443)
    assert split_host("[::1]:8443", DEFAULT_TLS_PORT) == ("::1", 8443)
