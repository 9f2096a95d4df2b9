"""A userspace TCP proxy that can delay, cut and black-hole what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from galileo_site.stack.ports import pick_free

HOST = "127.0.0.1"
_CHUNK_BYTES = 65536
_CHUNKS_HELD = 16  # of each direction of a connection, while nothing passes: as much as a socket's buffers would hold
_CALL_S = 10.0
_REBIND_S = 5.0
_CLOSE_WAIT = 8  # the first byte of TCP_INFO: the peer has closed its side
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends a reset

Result = TypeVar("Result")


class Proxy:
    """Passes connections to its `port` on to `target_port`, both on loopback; a context manager.

    Its connections live on an event loop in a thread of its own. The methods are for one other thread.
    """

    def __init__(self, target_port: int) -> None:
        self.port = pick_free()
        self.delay_s = 0.0  # of every byte, in each direction
        self.target_port = target_port
        self.is_passing = True
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)

    def start(self) -> Proxy:
        self._thread.start()
        self._call(self._listen())
        return self

    def stop(self) -> None:
        """Closes everything; it need not have been started. A stopped proxy cannot be started again."""
        if self._thread.is_alive():
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CALL_S)
        self._loop.close()

    def cut(self) -> None:
        """Resets all connections and refuses new ones."""
        self._call(self._cut())

    def black_hole(self) -> None:
        """Nothing passes any more, and nobody is told: connections stay open, and new ones are accepted."""
        self._call(self._switch(is_passing=False))

    def freeze_established(self) -> None:
        """The present connections never pass a byte again, not even after `heal`, and stay open; new ones work."""
        self._call(self._freeze())

    def delay(self, seconds: float) -> None:
        """From now on every byte takes so much longer, in each direction."""
        self.delay_s = seconds

    def heal(self) -> None:
        """Everything passes again at once: what was sent into a black hole, too, as TCP would send it again."""
        self.delay_s = 0.0
        self._call(self._switch(is_passing=True))
        self._call(self._listen())

    def connections(self) -> int:
        """How many connections are open, the frozen ones included."""
        return len(self._links)

    def __enter__(self) -> Proxy:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    async def _listen(self) -> None:
        if self._server is not None:
            return
        ends_s = self._loop.time() + _REBIND_S
        while self._server is None:
            try:
                self._server = await asyncio.start_server(self._accept, HOST, self.port, backlog=1024)
            except OSError:
                if self._loop.time() > ends_s:
                    raise
                await asyncio.sleep(0.05)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))

    async def _switch(self, *, is_passing: bool) -> None:
        self.is_passing = is_passing
        for link in self._links:
            link.let_pass(is_passing)

    async def _freeze(self) -> None:
        for link in self._links:
            link.freeze()

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.reset()
        await asyncio.gather(*(link.task for link in self._links), return_exceptions=True)

    async def _close(self) -> None:
        await self._cut()
        await asyncio.sleep(0)  # transports close one turn later


class _Link:
    """One connection through the proxy: its two sides, and whether bytes pass."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers = [writer]
        self._passing = asyncio.Event()
        self._frozen = False
        self.let_pass(proxy.is_passing)
        self.task = asyncio.ensure_future(self._run())

    def let_pass(self, is_passing: bool) -> None:
        if is_passing and not self._frozen:
            self._passing.set()
        else:
            self._passing.clear()

    def freeze(self) -> None:
        self._frozen = True
        self._passing.clear()

    def reset(self) -> None:
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # it has been closed already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self.task.cancel()

    async def _run(self) -> None:
        reader, writer = self._client
        try:
            born_in_the_hole = not self._passing.is_set()
            await self._passing.wait()
            # The first packet of a connection that was given up in the meantime would never have arrived.
            if born_in_the_hole and _has_closed(writer):
                return
            try:
                far_reader, far_writer = await asyncio.open_connection(HOST, self._proxy.target_port)
            except OSError:
                return
            self._writers.append(far_writer)
            ways = [asyncio.ensure_future(self._pass(reader, far_writer))]
            ways.append(asyncio.ensure_future(self._pass(far_reader, writer)))
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for each in self._writers:
                each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, to its end."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_HELD)
        receiving = asyncio.ensure_future(self._receive(reader, held))
        try:
            while True:
                due_s, data = await held.get()
                await asyncio.sleep(due_s - asyncio.get_running_loop().time())
                await self._passing.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _receive(self, reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"."
        while data:
            try:
                data = await reader.read(_CHUNK_BYTES)
            except OSError:
                data = b""
            await held.put((asyncio.get_running_loop().time() + self._proxy.delay_s, data))


def _has_closed(writer: asyncio.StreamWriter) -> bool:
    sock = writer.get_extra_info("socket")
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSE_WAIT)
