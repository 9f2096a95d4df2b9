"""Faults of other projects that the engine works around: where a test fails, its workaround can be removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvloop


class Recorded(asyncio.Protocol):
    """Calls back when its connection is made, and notes whether it was lost."""

    def __init__(self, on_made: Callable[[], Any]) -> None:
        self.on_made = on_made
        self.is_made = False
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.is_made = True
        self.on_made()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


def test_uvloop_drops_a_cancelled_connect_silently() -> None:
    """As in MagicStack/uvloop#738: no `connection_lost` after a connect that is cancelled once made (http/pool.py)."""

    async def scenario() -> Recorded:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        protocol = Recorded(lambda: task.cancel())  # noqa: PLW0108 - the task is made below
        task = loop.create_task(loop.create_connection(lambda: protocol, *server.sockets[0].getsockname()))
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(0.05)
        server.close()
        return protocol

    protocol = uvloop.run(scenario())
    assert protocol.is_made
    assert not protocol.is_lost
