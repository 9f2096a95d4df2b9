"""Keep-alive connections per host, and the arrivals that wait for one."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Collection, Coroutine

from loadgen.batch import NO_TIME
from loadgen.engine.connection import Connection
from loadgen.engine.deadlines import Deadlines
from loadgen.engine.dialer import Dialer, connect_outcome
from loadgen.engine.recorder import Recorder
from loadgen.engine.request import Wire
from loadgen.messages import Outcome

# Intended, dispatched, client, sequence, routing version, wire: what Connection.send takes.
Waiter = tuple[int, int, int, int, int, Wire]


class HostPool:
    """The connections to one host.

    An arrival takes the connection that became idle last (so that surplus ones rest, and time out at the server), else
    it waits, and there are always at least as many connections being opened as arrivals waiting. Whatever connection
    is ready next serves the oldest waiter.
    """

    __slots__ = ("_dialer", "_idle", "_openings", "_retired", "_waiters", "name", "pool")

    def __init__(self, pool: Pool, name: str, dialer: Dialer) -> None:
        self.pool = pool
        self.name = name
        self._dialer = dialer
        self._idle: dict[Connection, None] = {}  # a stack from whose middle can be taken
        self._waiters: deque[Waiter] = deque()
        self._openings = 0
        self._retired = False

    def send(self, intended_ns: int, dispatched_ns: int, client: int, sequence: int, version: int, wire: Wire) -> int:
        """Sends a request now, or as soon as a connection is ready; returns the time after that."""
        if self._idle:
            connection, _ = self._idle.popitem()
            return connection.send(intended_ns, dispatched_ns, client, sequence, version, wire)
        self._waiters.append((intended_ns, dispatched_ns, client, sequence, version, wire))
        if self._openings < len(self._waiters):
            self._openings += 1
            self.pool.openings += 1
            self.pool.start_task(self._open())
        return self.pool.now_ns()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def _open(self) -> None:
        attempt: list[Connection] = []

        def protocol() -> Connection:
            attempt.append(Connection(self, self.pool.next_serial()))
            return attempt[-1]

        connected = False
        failure = Outcome.CONNECT_OTHER  # stands for a programming error, too, which the loop then reports
        try:
            if self.pool.is_full():
                raise OSError(errno.EMFILE, "the descriptors left are kept for the spool and the broker")
            await self._dialer.connect(protocol)
            connected = True
        except (OSError, ValueError) as error:
            failure = connect_outcome(error)
        finally:
            made = [connection for connection in attempt if connection.made]
            if not made:
                self._failed(failure)
            elif not connected:
                # uvloop closes the transport of a connect that is interrupted just now, and tells nobody.
                for connection in made:
                    connection.connection_lost(None)

    def _failed(self, outcome: Outcome) -> None:
        self._openings -= 1
        self.pool.openings -= 1
        if self._openings < len(self._waiters):
            self._record_unsent(self._waiters.popleft(), outcome)

    def connected(self, connection: Connection) -> None:
        self._openings -= 1
        self.pool.openings -= 1
        self.pool.connections.add(connection)
        self.ready(connection)

    def ready(self, connection: Connection) -> None:
        """The connection can take a request."""
        if self._waiters and not self.pool.may_send():
            self.cut_waiters()
        if self._waiters:
            connection.send(*self._waiters.popleft())
        elif self._retired:
            connection.abort()
        else:
            self._idle[connection] = None

    def closed(self, connection: Connection) -> None:
        """The connection can take no request any more."""
        self._idle.pop(connection, None)

    def lost(self, connection: Connection) -> None:
        """The connection's socket is closed."""
        self.pool.connections.discard(connection)

    def retire(self, retired: bool) -> None:
        """Whether the host gets no new requests: then idle connections are closed."""
        self._retired = retired
        if retired:
            for connection in list(self._idle):
                connection.abort()

    def cut_waiters(self) -> None:
        """Records who still waits for a connection as CUT."""
        while self._waiters:
            self._record_unsent(self._waiters.popleft(), Outcome.CUT)

    def _record_unsent(self, waiter: Waiter, outcome: Outcome) -> None:
        intended_ns, dispatched_ns, client, sequence, version, _ = waiter
        self.pool.recorder.row(
            client, sequence, intended_ns, dispatched_ns, NO_TIME, NO_TIME, outcome, 0, self.name, 0, version
        )
        self.pool.in_flight -= 1


class Pool:
    """All connections of a shard. `in_flight` counts requests that wait for a connection or for their response.

    Args:
        now_ns: the time since the load's start.
        may_send: whether a request that has waited may still be sent.
        max_connections: what the process's file descriptors allow; one more is a CONNECT_NO_DESCRIPTOR.
    """

    def __init__(
        self,
        recorder: Recorder,
        now_ns: Callable[[], int],
        may_send: Callable[[], bool],
        connect_timeout_s: float,
        max_connections: int,
    ) -> None:
        self.recorder = recorder
        self.now_ns = now_ns
        self.deadlines = Deadlines()
        self.may_send = may_send
        self.connections: set[Connection] = set()
        self.openings = 0
        self.in_flight = 0
        self._max_connections = max_connections
        self.hosts: dict[str, HostPool] = {}
        self._connect_timeout_s = connect_timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._serial = 0

    def host(self, name: str) -> HostPool:
        """The pool of a host; made when it is first asked for."""
        pool = self.hosts.get(name)
        if pool is None:
            dialer = Dialer(asyncio.get_running_loop(), name, self._connect_timeout_s)
            pool = self.hosts[name] = HostPool(self, name, dialer)
        return pool

    @property
    def waiting(self) -> int:
        """How many of those in flight wait for a connection."""
        return sum(host.waiting for host in self.hosts.values())

    def is_full(self) -> bool:
        """Whether the connections there are, with those being opened, are too many."""
        return len(self.connections) + self.openings > self._max_connections

    def sweep(self) -> None:
        """Ends requests whose time-out has come."""
        self.deadlines.sweep(self.now_ns())
        self.deadlines.forget_closed(len(self.connections))

    def retain(self, names: Collection[str]) -> None:
        """Closes idle connections to other hosts; what is in flight there goes on."""
        for name, host in self.hosts.items():
            host.retire(name not in names)

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
        while self.connections:
            await asyncio.sleep(0)  # transports report their end in the loop's next turn

    def start_task(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def next_serial(self) -> int:
        self._serial += 1
        return self._serial
