"""Keep-alive connections per host, and the arrivals that wait for one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sys
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from itertools import takewhile
from typing import Final, cast

from loadgen.engine.deadlines import NEVER, Deadlines
from loadgen.engine.http.capture import Captures, CapturingConnection
from loadgen.engine.http.connection import Connection, First
from loadgen.engine.http.connection_throttle import Openings
from loadgen.engine.http.dialer import Dialer, connect_outcome
from loadgen.engine.http.response_head import Heads
from loadgen.engine.http.tls import TlsOptions
from loadgen.engine.http.wire import Wire
from loadgen.engine.recorder import Recorder
from loadgen.protocol.batch import NO_TIME
from loadgen.protocol.outcomes import Outcome

# Who waits longer for one of max_connections_per_host than this is counted: the wait is then the limit's doing.
POOL_WAIT_NS: Final = 10_000_000
CLOSED_WITHIN_S: Final = 5.0

# Intended, dispatched, client, sequence, routing version, wire, and what was sent first.
Waiter = tuple[int, int, int, int, int, Wire, First | None]


# What ends an arrival whose first request was sent, by what would end one that was not.
_OF_HOPS = {Outcome.CUT: Outcome.ABORTED, Outcome.CONNECT_TIMEOUT: Outcome.TIMEOUT}


class HostPool:
    """The connections to one host.

    An arrival takes the connection that became idle last (so that surplus ones rest, and time out at the server), else
    it waits, and as many connections are opened as arrivals wait (openings.py), up to the limit per host. Whatever
    connection is ready next serves the oldest waiter.
    """

    __slots__ = (
        "_dialer",
        "_open",
        "_openings",
        "_retired",
        "_waiters",
        "_waits_alike",
        "idle",
        "keep_alive",
        "name",
        "pool",
        "routed",
    )

    def __init__(self, pool: Pool, name: str, dialer: Dialer) -> None:
        self.pool = pool
        self.name = name
        self.keep_alive = pool.keep_alive
        self.routed = False  # arrivals are routed to it; else redirects alone lead here
        self._dialer = dialer
        self._open = 0
        # A stack from whose middle can be taken; who takes a connection sends with it at once.
        self.idle: dict[Connection, None] = {}
        self._waiters: deque[Waiter] = deque()
        self._waits_alike = True  # who came first times out first
        self._openings = 0
        self._retired = False

    def send(self, intended_ns: int, dispatched_ns: int, client: int, sequence: int, version: int, wire: Wire) -> int:
        """Sends a request now, or as soon as a connection is ready; returns the time after that."""
        if self.idle:
            connection, _ = self.idle.popitem()
            return connection.write(connection.load(intended_ns, client, sequence, version, wire), dispatched_ns)
        self.wait((intended_ns, dispatched_ns, client, sequence, version, wire, None))
        return self.pool.now_ns()

    def send_hop(self, waiter: Waiter) -> None:
        """As `send`, for what a redirect leads to."""
        if self.idle:
            _send(self.idle.popitem()[0], waiter)
        else:
            self.wait(waiter)

    def wait(self, waiter: Waiter) -> None:
        """Sends a request as soon as a connection is ready; to be called while none is idle."""
        if not self._waiters:
            self._waits_alike = waiter[6] is None
        elif self._waits_alike:
            self._waits_alike = waiter[6] is None and _time_outs(waiter) == _time_outs(self._waiters[0])
        self._waiters.append(waiter)
        self._open_another()

    @property
    def waiting(self) -> int:
        """How many wait that have sent nothing yet."""
        return sum(waiter[6] is None for waiter in self._waiters)

    def _open_another(self) -> None:
        if self._lacks_connection():
            self.pool.turns.ask(self)

    def _lacks_connection(self) -> bool:
        """Whether neither enough for all who wait, nor as many as are allowed, are there or on their way."""
        return self._openings < len(self._waiters) and self._open + self._openings < self.pool.max_per_host

    def open(self, most: int) -> bool:
        """Opens up to `most` of the connections that it lacks; whether it lacks more."""
        while most and self._lacks_connection():
            most -= 1
            wire = self._waiters[self._openings][5]
            self._openings += 1
            self.pool.openings += 1
            self.pool.start_task(self._connect(wire.connect_timeout_s))
        return self._lacks_connection()

    async def _connect(self, timeout_s: float | None) -> None:
        attempt = _Attempt(self)
        connected = False
        failure = Outcome.CONNECT_OTHER  # stands for a programming error, too, which the loop then reports
        try:
            if self.pool.is_full() and not self.pool.give_up_idle():
                raise OSError(errno.EMFILE, "the descriptors left are kept for the spool and the broker")
            await self._dialer.connect(attempt, timeout_s)
            connected = True
        except (OSError, ValueError) as error:
            failure = connect_outcome(error)
        finally:
            made = [connection for connection in attempt.connections if connection.made]
            if not made:
                self._failed(failure)
            # uvloop closes the transport of a connect that is interrupted just now, and tells nobody.
            for connection in made[:-1] if connected else made:
                connection.connection_lost(None)

    def _failed(self, outcome: Outcome) -> None:
        self._openings -= 1
        self.pool.openings -= 1
        if self._openings < len(self._waiters):
            self.record_unsent(self._waiters.popleft(), outcome)
        self._open_another()

    def connected(self, connection: Connection) -> None:
        self._openings -= 1
        self.pool.openings -= 1
        self._open += 1
        self.pool.connections.add(connection)
        self.ready(connection)

    def ready(self, connection: Connection) -> None:
        """The connection can take a request."""
        if self._waiters and self.pool.now_ns() >= self.pool.send_until_ns:
            self.cut_waiters()
        if self._waiters:
            waiter = self._waiters.popleft()
            sent_ns = _send(connection, waiter)
            if self._open + self._openings >= self.pool.max_per_host and waiter[6] is None:
                self.pool.long_waits += sent_ns - waiter[1] > POOL_WAIT_NS
        elif self._retired:
            connection.abort()
        else:
            self.idle[connection] = None

    def closed(self, connection: Connection) -> None:
        """The connection can take no request any more."""
        self.idle.pop(connection, None)

    def lost(self, connection: Connection) -> None:
        """The connection's socket is closed."""
        if connection in self.pool.connections:
            self.pool.connections.remove(connection)
            self._open -= 1
            self._open_another()

    def is_forgettable(self) -> bool:
        """Whether nothing is lost without it: redirects may lead to ever new hosts."""
        return not (self.routed or self._open or self._openings or self._waiters)

    def give_up_idle(self) -> bool:
        """Closes a connection that nobody uses; False when there is none."""
        for connection in self.idle:
            connection.abort()
            return True
        return False

    def retire(self, retired: bool) -> None:
        """Whether the host gets no new requests: then idle connections are closed."""
        self._retired = retired
        if retired:
            for connection in list(self.idle):
                connection.abort()

    def cut_waiters(self) -> None:
        """Records who still waits for a connection as CUT."""
        while self._waiters:
            self.record_unsent(self._waiters.popleft(), Outcome.CUT)

    def time_out(self, now_ns: int) -> None:
        """Ends the waits that have lasted too long: connections may be busy, or few."""
        waiters = self._waiters
        if self._waits_alike:
            over = list(takewhile(lambda waiter: self._wait_ends_ns(waiter) <= now_ns, waiters))
            for _ in over:
                waiters.popleft()
        else:
            over = [waiter for waiter in waiters if self._wait_ends_ns(waiter) <= now_ns]
            self._waiters = deque(waiter for waiter in waiters if self._wait_ends_ns(waiter) > now_ns)
        for waiter in over:
            self.pool.long_waits += waiter[6] is None and self._open + self._openings >= self.pool.max_per_host
            self.record_unsent(waiter, Outcome.CONNECT_TIMEOUT)

    def _wait_ends_ns(self, waiter: Waiter) -> int:
        """Who waits until others are done waits as long as for a response; while connections are being opened, as long
        as that may take, if it is longer."""
        _, dispatched_ns, _, _, _, wire, first = waiter
        if first is not None:
            return first[2]
        wait_ns = wire.timeout_ns
        if self._openings:
            wait_ns = max(wait_ns, round((wire.connect_timeout_s or self.pool.connect_timeout_s) * 1e9))
        return dispatched_ns + wait_ns

    def record_unsent(self, waiter: Waiter, outcome: Outcome) -> None:
        intended_ns, dispatched_ns, client, sequence, version, _, first = waiter
        sent_ns, name, _ = first or (NO_TIME, self.name, 0)
        if first is not None:
            outcome = _OF_HOPS.get(outcome, Outcome.REDIRECT)
        self.pool.recorder.row(
            client, sequence, intended_ns, dispatched_ns, sent_ns, NO_TIME, outcome, 0, name, 0, version
        )
        self.pool.in_flight -= 1
        if self.pool.on_end is not None:
            self.pool.on_end(client, sequence, outcome)


class _Attempt:
    """Makes the connections that an attempt to open one may need, of which only the last can be of use.

    No closure of the coroutine that it is for: compiled, the two would hold each other, and the connections.
    """

    __slots__ = ("_host", "connections")

    def __init__(self, host: HostPool) -> None:
        self._host = host
        self.connections: list[Connection] = []

    def __call__(self) -> asyncio.BaseProtocol:
        self.connections.append(self._host.pool.connection_kind(self._host))
        return cast(asyncio.BaseProtocol, self.connections[-1])  # by its methods


def _time_outs(waiter: Waiter) -> tuple[int, float | None]:
    return waiter[5].timeout_ns, waiter[5].connect_timeout_s


def _send(connection: Connection, waiter: Waiter) -> int:
    """Sends what has waited for a connection; returns the time after that."""
    intended_ns, dispatched_ns, client, sequence, version, wire, first = waiter
    return connection.write(connection.load(intended_ns, client, sequence, version, wire, first), dispatched_ns)


class Pool:
    """All connections of a shard. `in_flight` counts requests that wait for a connection or for their response.

    Args:
        now_ns: the monotonic clock.
        connect_timeout_s: for a look-up and a connect together.
        max_connections: what the process's file descriptors allow; one more is a CONNECT_NO_DESCRIPTOR.
        max_per_host: connections to one host; who needs one more waits.
        keep_alive: whether a connection serves more than one request.
        captures: takes requests and responses as they went over the wire; None: nobody does.
        is_closed_model: no more requests wait than there are clients.
    """

    host_kind = HostPool

    def __init__(
        self,
        recorder: Recorder,
        now_ns: Callable[[], int],
        connect_timeout_s: float,
        max_connections: int,
        max_per_host: int = sys.maxsize,
        keep_alive: bool = True,
        captures: Captures | None = None,
        *,
        is_closed_model: bool = False,
    ) -> None:
        self.recorder = recorder
        self.now_ns = now_ns
        self.max_per_host = max_per_host
        self.keep_alive = keep_alive
        self.deadlines = Deadlines()
        self.heads = Heads()
        self.send_until_ns = NEVER  # no request is sent from then on, of those that wait neither
        # Told of the end of each request: its client, its sequence number, and its outcome.
        self.on_end: Callable[[int, int, int], None] | None = None
        self.connections: set[Connection] = set()
        self.openings = 0
        self.in_flight = 0
        self.long_waits = 0  # requests that waited for longer than POOL_WAIT_NS when max_per_host was reached
        self.captures = captures
        self.kept_bytes = 0 if captures is None else captures.limit_bytes
        # Told of each complete response, before its row is recorded: its client, its status, and its bytes.
        self.on_response: Callable[[int, int, bytes], None] | None = None
        self.connection_kind = Connection if captures is None else CapturingConnection
        self._max_connections = max_connections
        # By name; with TLS, by name and options.
        self.hosts: dict[str | tuple[str, TlsOptions], HostPool] = {}
        self.connect_timeout_s = connect_timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        self.turns = Openings(recorder, self.connections, surely_needed=is_closed_model or not keep_alive)

    def listen(self, on_response: Callable[[int, int, bytes], None], limit_bytes: int) -> None:
        """Has each complete response told, `limit_bytes` of it; to be called before the first connection is opened."""
        self.on_response = on_response
        self.kept_bytes = max(self.kept_bytes, limit_bytes)
        self.connection_kind = CapturingConnection

    def host(self, name: str, tls: TlsOptions | None) -> HostPool:
        """The pool of a host that arrivals are routed to; made when it is first asked for."""
        host = self._host(name, tls)
        host.routed = True
        return host

    def _host(self, name: str, tls: TlsOptions | None) -> HostPool:
        key = name if tls is None else (name, tls)
        pool = self.hosts.get(key)
        if pool is None:
            dialer = Dialer(asyncio.get_running_loop(), name, self.connect_timeout_s, tls)
            pool = self.hosts[key] = self.host_kind(self, name, dialer)
        return pool

    def follow(self, name: str, waiter: Waiter) -> None:
        """Sends what a redirect leads to."""
        host = self._host(name, waiter[5].tls)
        if self.now_ns() < self.send_until_ns:
            host.send_hop(waiter)
        else:
            host.record_unsent(waiter, Outcome.CUT)

    @property
    def waiting(self) -> int:
        """How many of those in flight wait for a connection."""
        return sum(host.waiting for host in self.hosts.values())

    def is_full(self) -> bool:
        """Whether the connections there are, with those being opened, are too many."""
        return len(self.connections) + self.openings > self._max_connections

    def give_up_idle(self) -> bool:
        """Closes an idle connection to where only redirects have led; False when there is none."""
        return any(host.give_up_idle() for host in self.hosts.values() if not host.routed)

    def sweep(self, now_ns: int) -> None:
        """Ends requests, and waits for a connection, whose time-out had come by then."""
        self.heads.tick()
        self.deadlines.sweep(now_ns)
        for key, host in list(self.hosts.items()):
            host.time_out(now_ns)
            if host.is_forgettable():
                del self.hosts[key]
        self.deadlines.forget_closed(len(self.connections))

    def retain(self, names: Collection[str]) -> None:
        """Closes idle connections to other hosts; what is in flight there goes on."""
        for host in self.hosts.values():
            host.retire(host.routed and host.name not in names)

    def cut_waiters(self) -> None:
        for host in self.hosts.values():
            host.cut_waiters()

    def abort(self) -> None:
        """Closes all connections; requests in flight end as ABORTED (sent) or CUT (not sent)."""
        self.cut_waiters()
        for connection in list(self.connections):
            connection.abort()

    async def close(self) -> None:
        """Aborts, and waits until the sockets are closed."""
        self.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.abort()  # what was established before its task was cancelled
        with contextlib.suppress(TimeoutError):  # a transport that never reports its end must not keep the process
            async with asyncio.timeout(CLOSED_WITHIN_S):
                while self.connections:
                    await asyncio.sleep(0)  # transports report their end in the loop's next turn

    def start_task(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
