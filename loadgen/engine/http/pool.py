"""Pool: a shard's connections, by host, and the requests that wait for one.

Longer than other modules: the pool and its hosts refer to each other, and are compiled together.
"""

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
from loadgen.engine.http.capture import Captures, CapturingConnection, OnResponse
from loadgen.engine.http.connection import Connection
from loadgen.engine.http.connection_throttle import ConnectionThrottle
from loadgen.engine.http.cookies import CookieConnection, CookieJars
from loadgen.engine.http.dialer import Dialer, connect_outcome
from loadgen.engine.http.response.head import MAX_HEAD_BYTES
from loadgen.engine.http.response.known_heads import KnownHeads
from loadgen.engine.http.tls import TlsOptions
from loadgen.engine.http.wire_request import QueuedRequest, WireRequest
from loadgen.engine.recorder import Recorder
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.trace_batch import NO_TIME

# A request that waits longer for one of max_connections_per_host is counted: the limit has caused the wait.
POOL_WAIT_NS: Final = 10_000_000
# A connection whose last request was sent longer ago is looked at before it is used again: the event loop may not have
# read since the server ended it.
_LOOK_AFTER_NS: Final = 5_000_000
CLOSED_WITHIN_S: Final = 5.0

# The outcome of an arrival whose first request was sent, by the outcome of one whose first request was not.
_OUTCOMES_OF_HOPS: Final = {Outcome.CUT: Outcome.ABORTED, Outcome.CONNECT_TIMEOUT: Outcome.TIMEOUT}


class HostPool:
    """The connections to one host.

    A request takes the connection that became idle last, so that surplus connections time out at the server. Without an
    idle one it is queued, and as many connections are opened as requests are queued (connection_throttle.py), up to the
    limit per host. The connection that is ready next serves the oldest queued request. Requests that are sent again
    wait apart, as only new connections serve them.
    """

    def __init__(self, pool: Pool, name: str, dialer: Dialer) -> None:
        self.pool = pool
        self.name = name
        self.keep_alive = pool.keep_alive
        self.is_named = dialer.is_named
        self.routed = False  # whether arrivals are routed to it; otherwise only redirects lead here
        self._dialer = dialer
        self._open = 0
        # A stack that allows removal from its middle.
        self.idle: dict[Connection, None] = {}
        self._queue: deque[QueuedRequest] = deque()
        self._resends: deque[QueuedRequest] = deque()
        self._same_timeouts = True  # of all queued requests: the oldest times out first
        self._opening = 0
        self._retired = False

    def send(
        self, intended_ns: int, dispatched_ns: int, client: int, sequence: int, version: int, wire: WireRequest
    ) -> int:
        """Sends a request now, or as soon as a connection is ready; returns the time after that."""
        connection = self.take_idle(dispatched_ns)
        if connection is not None:
            return connection.write(connection.load(intended_ns, client, sequence, version, wire), dispatched_ns)
        self.enqueue(QueuedRequest(intended_ns, dispatched_ns, client, sequence, version, wire))
        return self.pool.now_ns()

    def send_hop(self, request: QueuedRequest) -> None:
        """Sends the next request of a redirected arrival now, or as soon as a connection is ready."""
        connection = self.take_idle(self.pool.now_ns())
        if connection is not None:
            _send(connection, request)
        else:
            self.enqueue(request)

    def take_idle(self, now_ns: int) -> Connection | None:
        """Returns an idle connection that the server has not ended; callers must write a request to it in this turn."""
        while self.idle:
            connection, _ = self.idle.popitem()
            if now_ns - connection.sent_ns < _LOOK_AFTER_NS or connection.is_usable():
                return connection
            connection.abort()
        return None

    def resend(self, request: QueuedRequest) -> None:
        """Sends a request again, on a connection that is opened for it."""
        self._resends.append(request)
        self._open_another()

    def enqueue(self, request: QueuedRequest) -> None:
        """Queues a request for the next ready connection; to be called while none is idle."""
        if not self._queue:
            self._same_timeouts = request.first is None
        elif self._same_timeouts:
            self._same_timeouts = request.first is None and _timeouts(request) == _timeouts(self._queue[0])
        self._queue.append(request)
        self._open_another()

    @property
    def queued(self) -> int:
        """The number of queued requests that are the first of their arrival."""
        return sum(request.first is None for request in self._queue)

    def _open_another(self) -> None:
        if self._lacks_connection():
            self.pool.throttle.request(self)

    def _lacks_connection(self) -> bool:
        """Returns whether a queued request has no connection on the way, and the limit per host allows one more."""
        waiting = len(self._resends) + len(self._queue)
        return self._opening < waiting and self._open + self._opening < self.pool.max_per_host

    def open(self, limit: int) -> bool:
        """Opens at most `limit` of the connections that the host lacks; returns whether it lacks more."""
        while limit and self._lacks_connection():
            limit -= 1
            later = self._opening - len(self._resends)
            wire = (self._resends[self._opening] if later < 0 else self._queue[later]).wire
            self._opening += 1
            self.pool.opening += 1
            self.pool.start_task(self._connect(wire.connect_timeout_s))
        return self._lacks_connection()

    async def _connect(self, timeout_s: float | None) -> None:
        attempt = _Attempt(self)
        connected = False
        failure = Outcome.CONNECT_OTHER  # also for a programming error, which the event loop then reports
        try:
            if self.pool.is_full() and not self.pool.close_idle():
                raise OSError(errno.EMFILE, "the remaining descriptors are reserved for the spool and the broker")
            await self._dialer.connect(attempt, timeout_s)
            connected = True
        except (OSError, ValueError) as error:
            failure = connect_outcome(error)
        finally:
            made = [connection for connection in attempt.connections if connection.made]
            if not made:
                self._failed(failure)
            # If a connect is cancelled when it has just succeeded, uvloop closes the transport without calling
            # connection_lost (seen with 0.23; MagicStack/uvloop#738 is about the same path).
            for connection in made[:-1] if connected else made:
                connection.connection_lost(None)

    def _failed(self, outcome: Outcome) -> None:
        self._opening -= 1
        self.pool.opening -= 1
        if self._opening < len(self._resends) + len(self._queue):
            self.record_unsent((self._resends or self._queue).popleft(), outcome)
        self._open_another()

    def connected(self, connection: Connection) -> None:
        self._opening -= 1
        self.pool.opening -= 1
        self._open += 1
        self.pool.connections.add(connection)
        self._serve(connection, self._resends or self._queue)

    def ready(self, connection: Connection) -> None:
        self._serve(connection, self._queue)

    def _serve(self, connection: Connection, queue: deque[QueuedRequest]) -> None:
        if queue:
            now_ns = self.pool.now_ns()
            if now_ns >= self.pool.send_until_ns:
                self.cut_queued()
            elif now_ns - connection.sent_ns > _LOOK_AFTER_NS and not connection.is_usable():
                connection.abort()
                self._open_another()
                return
        if queue:
            request = queue.popleft()
            sent_ns = _send(connection, request)
            if self._open + self._opening >= self.pool.max_per_host and request.first is None:
                self.pool.long_waits += sent_ns - request.dispatched_ns > POOL_WAIT_NS
        elif self._retired:
            connection.abort()
        else:
            self.idle[connection] = None

    def closed(self, connection: Connection) -> None:
        self.idle.pop(connection, None)

    def lost(self, connection: Connection) -> None:
        if connection in self.pool.connections:
            self.pool.connections.remove(connection)
            self._open -= 1
            self._open_another()

    def is_forgettable(self) -> bool:
        """Returns whether the pool may drop this host: redirects and route changes lead to any number of hosts."""
        is_needed = self.routed and not self._retired
        return not (is_needed or self._open or self._opening or self._queue or self._resends)

    def close_idle(self) -> bool:
        """Closes an idle connection; returns whether there was one."""
        for connection in self.idle:
            connection.abort()
            return True
        return False

    def retire(self, retired: bool) -> None:
        """Sets whether the host gets no new requests; if so, its idle connections are closed."""
        self._retired = retired
        if retired:
            for connection in list(self.idle):
                connection.abort()

    def cut_queued(self) -> None:
        """Records the queued requests as CUT."""
        while self._resends or self._queue:
            self.record_unsent((self._resends or self._queue).popleft(), Outcome.CUT)

    def time_out(self, now_ns: int) -> None:
        """Ends the requests whose wait for a connection has timed out."""
        queue = self._queue
        if self._same_timeouts:
            over = list(takewhile(lambda request: self._wait_ends_ns(request) <= now_ns, queue))
            for _ in over:
                queue.popleft()
        else:
            over = [request for request in queue if self._wait_ends_ns(request) <= now_ns]
            self._queue = deque(request for request in queue if self._wait_ends_ns(request) > now_ns)
        if self._resends:
            over += [request for request in self._resends if self._wait_ends_ns(request) <= now_ns]
            self._resends = deque(request for request in self._resends if self._wait_ends_ns(request) > now_ns)
        for request in over:
            self.pool.long_waits += request.first is None and self._open + self._opening >= self.pool.max_per_host
            self.record_unsent(request, Outcome.CONNECT_TIMEOUT)

    def _wait_ends_ns(self, request: QueuedRequest) -> int:
        """Returns when a request's wait for a connection times out.

        The wait is limited by the time-out of the response, or, while connections are being opened, by the connect
        time-out if that is longer.
        """
        if request.first is not None:
            return request.first.deadline_ns
        wait_ns = request.wire.timeout_ns
        if self._opening:
            connect_timeout_s = request.wire.connect_timeout_s or self.pool.connect_timeout_s
            wait_ns = max(wait_ns, round(connect_timeout_s * 1e9))
        return request.dispatched_ns + wait_ns

    def look_up_again(self) -> None:
        """Looks the host's name up again, if that is due, and closes connections to addresses that it has lost."""
        if self._open and self._dialer.is_outdated():
            self.pool.start_task(self._follow_addresses())

    async def _follow_addresses(self) -> None:
        with contextlib.suppress(OSError):  # the addresses stay as they were for the present connections
            await self._dialer.refresh()
        if addresses := self._dialer.addresses:
            for connection in list(self.pool.connections):
                connection.retire(self, addresses)

    def record_unsent(self, request: QueuedRequest, outcome: Outcome) -> None:
        """Records the end of an arrival whose first or next request is not sent."""
        first = request.first
        if first is not None:
            outcome = _OUTCOMES_OF_HOPS.get(outcome, Outcome.CLOSED if first.resent else Outcome.REDIRECT)
        self.pool.recorder.row(
            request.client,
            request.sequence,
            request.intended_ns,
            request.dispatched_ns,
            first.sent_ns if first is not None else NO_TIME,
            NO_TIME,
            outcome,
            0,
            first.endpoint if first is not None else self.name,
            0,
            request.routing_version,
            resent=0 if first is None else first.resent,
        )
        self.pool.in_flight -= 1
        if self.pool.on_end is not None:
            self.pool.on_end(request.client, request.sequence, outcome)


class _Attempt:
    """Makes the connections of one attempt to connect, one per address; only the last one can be used.

    It is not a closure of the coroutine: compiled, the two would be in a reference cycle with the connections.
    """

    __slots__ = ("_host", "connections")

    def __init__(self, host: HostPool) -> None:
        self._host = host
        self.connections: list[Connection] = []

    def __call__(self) -> asyncio.BaseProtocol:
        self.connections.append(self._host.pool.connection_kind(self._host))
        return cast(asyncio.BaseProtocol, self.connections[-1])  # by its methods


def _timeouts(request: QueuedRequest) -> tuple[int, float | None]:
    return request.wire.timeout_ns, request.wire.connect_timeout_s


def _send(connection: Connection, request: QueuedRequest) -> int:
    """Sends a request that has waited for a connection; returns the time after that."""
    intended_ns, dispatched_ns, client, sequence, version, wire, first = request
    return connection.write(connection.load(intended_ns, client, sequence, version, wire, first), dispatched_ns)


class Pool:
    """All connections of a shard.

    Args:
        now_ns: the monotonic clock.
        connect_timeout_s: for a look-up and a connect together.
        max_connections: allowed by the process's file descriptors; a further connect ends as CONNECT_NO_DESCRIPTOR.
        max_per_host: connections to one host; a request that would need one more is queued.
        keep_alive: whether a connection serves more than one request.
        captures: receives requests and responses as sent; None: they are not kept.
        is_closed_model: whether each client has at most one request.

    Attributes:
        send_until_ns: no request is sent from then on, queued ones included.
        on_end: called at the end of each request with its client, sequence number and outcome.
        on_response: called with each complete response, before its row is recorded.
        cookies: those of the clients; None: they are not kept.
        opening: connections that are being opened.
        in_flight: requests that wait for a connection or for their response.
        long_waits: requests that waited longer than POOL_WAIT_NS while max_per_host was reached.
        hosts: by name; with TLS, by name and options.
        fixed: the pool of a host and its request, by the host's name, where that is the same for all clients.
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
        self.known_heads = KnownHeads()
        self.send_until_ns = NEVER
        self.on_end: Callable[[int, int, int], None] | None = None
        self.connections: set[Connection] = set()
        self.opening = 0
        self.in_flight = 0
        self.long_waits = 0
        self.captures = captures
        self.kept_bytes = 0 if captures is None else captures.limit_bytes
        self.on_response: OnResponse | None = None
        self.cookies: CookieJars | None = None
        self.connection_kind: type[Connection] = Connection if captures is None else CapturingConnection
        self._max_connections = max_connections
        self.hosts: dict[str | tuple[str, TlsOptions], HostPool] = {}
        self.fixed: dict[str, tuple[HostPool, WireRequest]] = {}
        self.connect_timeout_s = connect_timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        always_needed = is_closed_model or not keep_alive
        self.throttle = ConnectionThrottle(recorder, self.connections, now_ns, always_needed=always_needed)

    def listen(self, on_response: OnResponse, limit_bytes: int) -> None:
        """Calls `on_response` with `limit_bytes` of each response; to be called before a connection is opened."""
        self.on_response = on_response
        self.kept_bytes = max(self.kept_bytes, limit_bytes)
        self.connection_kind = CapturingConnection

    def keep_cookies(self, cookies: CookieJars) -> None:
        """Keeps the clients' cookies there; to be called after `listen`, and before a connection is opened."""
        self.cookies = cookies
        self.kept_bytes = max(self.kept_bytes, MAX_HEAD_BYTES)
        self.connection_kind = CookieConnection

    def host(self, name: str, tls: TlsOptions | None) -> HostPool:
        """Returns the pool of a host that arrivals are routed to; makes it at the first call."""
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

    def follow(self, name: str, request: QueuedRequest) -> None:
        """Sends the next request of a redirected arrival."""
        host = self._host(name, request.wire.tls)
        if self.now_ns() < self.send_until_ns:
            host.send_hop(request)
        else:
            host.record_unsent(request, Outcome.CUT)

    @property
    def queued(self) -> int:
        """The number of arrivals in flight that have sent nothing yet, as they wait for a connection."""
        return sum(host.queued for host in self.hosts.values())

    def is_full(self) -> bool:
        """Returns whether there are too many connections, those being opened included."""
        return len(self.connections) + self.opening > self._max_connections

    def close_idle(self) -> bool:
        """Closes an idle connection to a host that only redirects lead to; returns whether there was one."""
        return any(host.close_idle() for host in self.hosts.values() if not host.routed)

    def sweep(self, now_ns: int) -> None:
        """Ends the requests, queued ones included, that have timed out by then."""
        self.known_heads.tick()
        self.deadlines.sweep(now_ns)
        for key, host in list(self.hosts.items()):
            host.time_out(now_ns)
            host.look_up_again()
            if host.is_forgettable():
                del self.hosts[key]
                self.fixed.pop(host.name, None)
        self.deadlines.forget_closed(len(self.connections))

    def retain(self, names: Collection[str]) -> None:
        """Closes idle connections to all other hosts; requests in flight there continue."""
        for host in self.hosts.values():
            host.retire(host.routed and host.name not in names)

    def cut_queued(self) -> None:
        for host in self.hosts.values():
            host.cut_queued()

    def abort(self) -> None:
        """Closes all connections; requests in flight end as ABORTED (sent) or CUT (not sent)."""
        self.cut_queued()
        for connection in list(self.connections):
            connection.abort()

    async def close(self) -> None:
        """Aborts, and waits until the sockets are closed."""
        self.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.abort()  # connections that were established before their task was cancelled
        with contextlib.suppress(TimeoutError):  # the process must end even if a transport does not
            async with asyncio.timeout(CLOSED_WITHIN_S):
                while self.connections:
                    await asyncio.sleep(0)  # transports report their end in the loop's next turn

    def start_task(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
