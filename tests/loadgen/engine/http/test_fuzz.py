"""Whatever a target answers, however it is split and whenever it ends: each arrival has its row, and nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from loadgen.protocol.outcomes import Outcome
from tests.loadgen.engine.conftest import Run
from tests.loadgen.engine.harness import Result, build, play
from tests.support.http_target import FIXED

pytestmark = pytest.mark.slow

ARRIVALS = 300
ENDS = ("keep", "keep", "close", "reset", "half-close")
SENT = {Outcome.COMPLETED, Outcome.TIMEOUT, Outcome.RESET, Outcome.CLOSED, Outcome.MALFORMED, Outcome.REDIRECT}
SEEDS_OF_RESPONSES = [response for mode, (response, _) in FIXED.items() if len(response) < 1000] + [
    b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nwords",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;ext=1\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokay",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"\r\n\r\n",
    bytes(range(256)),
]


def mutated(rng: random.Random, response: bytes) -> bytes:
    data = bytearray(response)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 5])):
        at, length = rng.randrange(len(data) + 1), rng.randrange(1, 8)
        match rng.randrange(5):
            case 0:
                data[at : at + length] = b""
            case 1:
                data[at:at] = rng.randbytes(length)
            case 2:
                data[at : at + length] = rng.randbytes(length)
            case 3:
                data[at:at] = data[at : at + 10 * length]
            case 4:
                del data[at:]
    return bytes(data)


def pieces(rng: random.Random, data: bytes) -> Iterator[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 0, 1, 3, 6])))
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if start < stop:
            yield data[start:stop]


class Hostile(asyncio.Protocol):
    """Answers each request with something of its own, in pieces, and then maybe ends the connection."""

    def __init__(self, rng: random.Random, ids: list[str]) -> None:
        self._rng = rng
        self._ids = ids
        self._half_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"\r\n\r\n"), "one whole request at a time"
        self._ids.append(data.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0].decode())
        self._answer = asyncio.get_running_loop().create_task(self._respond())  # kept, as the loop does not keep it

    async def _respond(self) -> None:
        for piece in pieces(self._rng, mutated(self._rng, self._rng.choice(SEEDS_OF_RESPONSES))):
            if self._is_silent():
                return
            self._transport.write(piece)
            await asyncio.sleep(self._rng.choice([0, 0, 0.001]))
        if self._is_silent():
            return
        match self._rng.choice(ENDS):
            case "close":
                self._transport.close()
            case "reset":
                sock = self._transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                self._transport.abort()
            case "half-close":
                self._half_closed = True
                with contextlib.suppress(OSError):  # the other side was faster
                    self._transport.write_eof()

    def _is_silent(self) -> bool:
        """It can say no more: a request may come just as the connection ends."""
        return self._half_closed or self._transport.is_closing()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("seed", range(3))
def test_malformed_responses_crash_nothing_and_lose_no_request(run: Run[Any], seed: int, method: str) -> None:
    rng = random.Random(seed)
    ids: list[str] = []
    complaints: list[dict[str, Any]] = []

    async def scenario() -> Result:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        server = await loop.create_server(lambda: Hostile(rng, ids), "127.0.0.1", 0, backlog=512)
        async with server:
            host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            settings: dict[str, Any] = {"rate": 600, "duration": ARRIVALS / 600, "request_timeout_s": 0.2}
            return await play(build(host, method=method, **settings))

    result = run(scenario())
    assert complaints == []
    assert result.reason == ""
    outcomes = result.outcomes()
    assert sum(outcomes.values()) == ARRIVALS
    assert set(outcomes) <= SENT
    assert len(outcomes) >= 4  # it was hostile enough
    assert len(ids) == len(set(ids))
    # A hop of a redirect has its arrival's id, with a number behind it.
    assert {re.sub(r"-\d{1,2}$", "", name) for name in ids} <= set(result.ids())
