"""Opens connections, and names what went wrong when one cannot be opened."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from loadgen.messages import Outcome

DEFAULT_PORT = 80
_RESOLVED_FOR_S = 30.0

_BY_ERRNO = {
    errno.ECONNREFUSED: Outcome.CONNECT_REFUSED,
    errno.ETIMEDOUT: Outcome.CONNECT_TIMEOUT,
    errno.EMFILE: Outcome.CONNECT_NO_DESCRIPTOR,
    errno.ENFILE: Outcome.CONNECT_NO_DESCRIPTOR,
    errno.EADDRNOTAVAIL: Outcome.CONNECT_NO_PORT,
}


def connect_outcome(error: Exception) -> Outcome:
    """The outcome of an arrival whose connect raised this."""
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return Outcome.CONNECT_DNS
    if isinstance(error, TimeoutError):
        return Outcome.CONNECT_TIMEOUT
    if isinstance(error, OSError) and error.errno is not None:
        return _BY_ERRNO.get(error.errno, Outcome.CONNECT_OTHER)
    return Outcome.CONNECT_OTHER


def split_host(host: str) -> tuple[str, int]:
    """Name or address, and port, of `host`, `host:port`, `[::1]` or `[::1]:port`."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, str(DEFAULT_PORT)
    return name.removeprefix("[").removesuffix("]"), int(port)


class Dialer:
    """Connects to one host; its name's addresses are kept for a while, as a look-up costs a thread and time.

    Args:
        timeout_s: for look-up and connect together.
    """

    __slots__ = ("_addresses", "_loop", "_name", "_port", "_resolved_at", "_timeout_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, timeout_s: float) -> None:
        self._loop = loop
        self._name, self._port = split_host(host)
        self._timeout_s = timeout_s
        self._addresses: list[str] = []
        self._resolved_at = 0.0

    async def connect(self, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Opens a connection to the first address that accepts one.

        Raises:
            OSError, ValueError: see `connect_outcome`.
        """
        async with asyncio.timeout(self._timeout_s):
            addresses = await self._resolve()
            for address in addresses:
                try:
                    await self._loop.create_connection(protocol, address, self._port)
                except OSError:
                    if address == addresses[-1]:
                        self._addresses = []
                        raise
                else:
                    # Maybe only one of the addresses of a name (localhost) is served: it is tried first from now on.
                    self._addresses = [address, *(other for other in addresses if other != address)]
                    return

    async def _resolve(self) -> list[str]:
        now = self._loop.time()
        if not self._addresses or now - self._resolved_at > _RESOLVED_FOR_S:
            found: list[Any] = await self._loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
            self._addresses = list(dict.fromkeys(entry[4][0] for entry in found))
            self._resolved_at = now
        return self._addresses
