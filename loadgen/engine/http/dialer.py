"""Dialer: opens connections to one host."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import Any

from loadgen.engine.http import tls
from loadgen.engine.http.tls import TlsOptions
from loadgen.engine.http.tls_transport import TlsTransport
from loadgen.protocol.outcomes import Outcome

DEFAULT_PORT = 80
DEFAULT_TLS_PORT = 443
_RESOLVED_FOR_S = 30.0
_FAILED_FOR_S = 1.0

_BY_ERRNO = {
    errno.ECONNREFUSED: Outcome.CONNECT_REFUSED,
    errno.ETIMEDOUT: Outcome.CONNECT_TIMEOUT,
    errno.EMFILE: Outcome.CONNECT_NO_DESCRIPTOR,
    errno.ENFILE: Outcome.CONNECT_NO_DESCRIPTOR,
    errno.EADDRNOTAVAIL: Outcome.CONNECT_NO_PORT,
}


def connect_outcome(error: Exception) -> Outcome:
    """Returns the outcome of an arrival whose connect raised this error."""
    if isinstance(error, ssl.SSLError):
        return Outcome.CONNECT_TLS
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return Outcome.CONNECT_DNS
    if isinstance(error, TimeoutError):
        return Outcome.CONNECT_TIMEOUT
    if isinstance(error, OSError) and error.errno is not None:
        return _BY_ERRNO.get(error.errno, Outcome.CONNECT_OTHER)
    return Outcome.CONNECT_OTHER


def split_host(host: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Returns name or address, and port, of `host`, `host:port`, `[::1]` or `[::1]:port`."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, str(default_port)
    return name.removeprefix("[").removesuffix("]"), int(port)


class Dialer:
    """Connects to one host.

    One look-up serves all connects, as it costs a thread and time. Its result is kept for 30 s; for 1 s if it failed,
    or if no address accepts a connection. The addresses are used in turn; those that refused a connection since the
    look-up come last.

    Attributes:
        is_named: whether the host is a name, which may have several addresses.

    Args:
        timeout_s: for look-up, connect and TLS together.
        tls_options: None for plain TCP; with TLS, the default port is 443.

    Raises:
        OSError: see `tls.context`.
        ValueError: the port is not a number.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: str, timeout_s: float, tls_options: TlsOptions | None = None
    ) -> None:
        self._loop = loop
        self._context = tls.context(tls_options) if tls_options is not None else None
        self._name, self._port = split_host(host, DEFAULT_PORT if self._context is None else DEFAULT_TLS_PORT)
        self._server_name = self._name.rstrip(".") if self._context is not None else None
        self._timeout_s = timeout_s
        self._addresses: list[str] = []
        self._refusing: set[str] = set()  # since the look-up
        self._turn = 0
        self._resolved_at = 0.0
        self._good_for_s = _RESOLVED_FOR_S
        self._failure: socket.gaierror | None = None
        self._look_up: asyncio.Task[None] | None = None
        self.is_named = not _is_address(self._name)
        if not self.is_named:
            self._addresses = [self._name]
            self._good_for_s = float("inf")

    async def connect(self, protocol: Callable[[], asyncio.BaseProtocol], timeout_s: float | None = None) -> None:
        """Opens a connection to the next address in turn that accepts one.

        Each address but the last gets its share of the remaining time, so that an address that does not answer does not
        use up the time of the others.

        Args:
            timeout_s: instead of the dialer's own.

        Raises:
            OSError, ValueError: see `connect_outcome`.
        """
        async with asyncio.timeout(timeout_s if timeout_s is not None else self._timeout_s) as whole:
            addresses = self._in_turn(await self._resolve())
            for untried, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
                ends_at = whole.when()
                assert ends_at is not None
                share_s = (ends_at - self._loop.time()) / untried if untried > 1 else None
                try:
                    async with asyncio.timeout(share_s):
                        await self._open(protocol, address)
                except ssl.SSLError:
                    raise
                except OSError:
                    self._refusing.add(address)
                    if untried == 1:
                        self._distrust()
                        raise
                else:
                    self._refusing.discard(address)
                    return

    @property
    def addresses(self) -> list[str]:
        """Those of the last look-up; empty if it failed."""
        return self._addresses

    def is_outdated(self) -> bool:
        """Returns whether the addresses are to be looked up again."""
        return self.is_named and self._look_up is None and self._loop.time() - self._resolved_at > self._good_for_s

    async def refresh(self) -> None:
        """Looks the addresses up again if that is due. Raises socket.gaierror."""
        await self._resolve()

    def _in_turn(self, addresses: list[str]) -> list[str]:
        accepting = [address for address in addresses if address not in self._refusing]
        if len(accepting) < len(addresses):
            return [*_rotated(accepting, self._next_turn()), *(each for each in addresses if each in self._refusing)]
        return _rotated(addresses, self._next_turn())

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn - 1

    async def _open(self, protocol: Callable[[], asyncio.BaseProtocol], address: str) -> None:
        if self._context is None:
            await self._loop.create_connection(protocol, address, self._port)
        else:
            transport = TlsTransport(self._loop, self._context, self._server_name, protocol)
            await self._loop.create_connection(lambda: transport, address, self._port)
            await transport.opened()

    def _distrust(self) -> None:
        """Lets the addresses be looked up again soon: the host may have moved."""
        if self._good_for_s == _RESOLVED_FOR_S:
            self._good_for_s = _FAILED_FOR_S

    async def _resolve(self) -> list[str]:
        if self._loop.time() - self._resolved_at > self._good_for_s or not (self._addresses or self._failure):
            if self._look_up is None:
                self._look_up = self._loop.create_task(self._look_up_addresses())
            await asyncio.shield(self._look_up)  # other connects still use it if this one times out
        if self._failure is not None:
            raise socket.gaierror(*self._failure.args)
        return self._addresses

    async def _look_up_addresses(self) -> None:
        found: list[Any] = []
        self._failure = None
        try:
            found = await self._loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            self._failure = error
        except UnicodeError as error:  # the name breaks the rules of IDNA
            self._failure = socket.gaierror(socket.EAI_NONAME, str(error))
        finally:
            self._look_up = None
        self._addresses = list(dict.fromkeys(entry[4][0] for entry in found))
        self._refusing.clear()
        self._resolved_at = self._loop.time()
        self._good_for_s = _FAILED_FOR_S if self._failure is not None else _RESOLVED_FOR_S


def _rotated(addresses: list[str], turn: int) -> list[str]:
    if len(addresses) < 2:
        return addresses
    first = turn % len(addresses)
    return [*addresses[first:], *addresses[:first]]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
