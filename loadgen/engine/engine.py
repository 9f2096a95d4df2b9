"""Engine: the life of a shard's load from its preparation to its end.

Longer than other modules: the states and their transitions are in one class.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from loadgen.engine.end import CLOSED, FINISHED, End, failed
from loadgen.engine.errors import AppError
from loadgen.engine.executors import registry
from loadgen.engine.executors.base import Command, CommandProgress, ExecutorContext
from loadgen.engine.garbage import GarbageCollection
from loadgen.engine.http.capture import Captures
from loadgen.engine.http.cookies import CookieJars
from loadgen.engine.http.debug import DebugPool
from loadgen.engine.http.pool import Pool
from loadgen.engine.http.response.app_response import MAX_RESPONSE_BYTES
from loadgen.engine.http.sources import SourceFactory
from loadgen.engine.plan_cut import PlanCut
from loadgen.engine.recorder import Recorder
from loadgen.engine.routes import Routes
from loadgen.engine.stalls import AppTime, Stall, StallWatch
from loadgen.engine.ticks import TICK_NS, Ticks
from loadgen.engine.timer import Timer, build_timer
from loadgen.protocol.enums import CaptureMode, ConnectionMode, CookieMode, LoadModel
from loadgen.protocol.messages import Counters, GroupCommand, GroupDocument, ShardOrder
from loadgen.protocol.trace_batch import Capture

# A later attempt does not know the last sequence number of the one before, and no request id may come twice: attempt n
# begins at (n - 1) << ATTEMPT_SEQUENCE_BITS. The controller's limit of 16 attempts fills the row's field of 32 bits.
ATTEMPT_SEQUENCE_BITS: Final = 28


class State(Enum):
    """The state of an engine; it only moves forward."""

    NEW = "new"
    RUNNING = "running"  # requests are sent, or the schedule's end and the requests in flight are awaited
    STOPPING = "stopping"  # no request is sent; the rest of the plan is recorded, requests in flight get their grace
    ENDED = "ended"


@dataclass(frozen=True)
class EngineGauges:
    """The engine's condition; `stall` is the longest one of the event loop since the last call."""

    in_flight: int
    connections: int
    stall: Stall
    app_time: AppTime
    pool_waits: int


class Engine:
    """Sends the requests of one shard's clients. All methods must be called in the event loop's thread.

    Args:
        order: names the shard's clients.
        document: holds the workload.
        source: makes the request source (`file_sources` for apps in a folder).
        routes: the service's routes, kept up to date by the caller.
        monotonic_ns: the clock of `start`.
        max_connections: how many connections the process's file descriptors allow.
    """

    def __init__(
        self,
        order: ShardOrder,
        document: GroupDocument,
        source: SourceFactory,
        routes: Routes,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        max_connections: int = sys.maxsize,
    ) -> None:
        workload = document.workload
        clients = [client for first, stop, step in order.clients for client in range(first, stop, step)]
        self.routes = routes
        self._now_ns = monotonic_ns
        self._stop_grace_ns = round(document.stop_grace_s * 1e9)
        self._recorder = Recorder()
        self._captures: Captures | None = None
        if workload.capture != CaptureMode.NONE:
            self._captures = Captures(workload.capture, workload.capture_bytes, self._recorder)
        self._pool = (Pool if routes.sends else DebugPool)(
            self._recorder,
            monotonic_ns,
            workload.connect_timeout_s,
            max_connections,
            workload.max_connections_per_host or sys.maxsize,
            workload.connection == ConnectionMode.KEEP_ALIVE,
            self._captures,
            is_closed_model=workload.model == LoadModel.CLOSED,
        )
        self._source = source(document, clients, routes.base_url)
        self._cookie_mode = workload.cookies
        self._cookies: CookieJars | None = None
        context = ExecutorContext(
            workload,
            clients,
            document.seed,
            document.total_clients,
            (order.attempt - 1) << ATTEMPT_SEQUENCE_BITS,
            self._source,
            routes,
            self._pool,
            self._recorder,
            self._arm,
            self._dispatch_failed,
        )
        self._executor = registry.build(workload.model, context)
        self._plan_cut = PlanCut(self._executor, self._recorder, self._fail)
        self._garbage = GarbageCollection()
        self._state = State.NEW
        self._end_as = FINISHED
        self._error: Exception | None = None
        self._start_ns = 0
        self._expired = FINISHED  # how the load ends at the time of `send_until`
        self._grace_ends_ns = 0
        self._ended = asyncio.Event()
        self._timer: Timer | None = None
        self.stalls = StallWatch(self._source.app_time, monotonic_ns, TICK_NS)
        self._ticks = Ticks(self._pool, self._garbage, self.stalls, self._on_tick, self._fail)
        routes.on_change = self._pool.retain

    # --- The life of a load

    async def prepare(self) -> None:
        """Loads the client app for each client, or prepares the static request.

        Raises:
            AppError: with the last lines of the app's traceback if there is one.
        """
        await self._source.prepare()
        if self._source.wants_responses:
            self._pool.listen(self._take_response, MAX_RESPONSE_BYTES)
        if (self._cookie_mode or self._source.cookie_mode) == CookieMode.KEEP:
            self._cookies = CookieJars(self.routes.nodes)
            self._pool.keep_cookies(self._cookies)
        self._executor.prepare()
        self._garbage.collect()

    def send_until(self, monotonic_ns: int, end: End) -> None:
        """Sets the time at which the engine stops by itself, as `end`, without recording the rest of the plan.

        The time is checked before each turn: a process that was suspended sends nothing when it resumes too late.
        """
        if self._is_ending:
            return
        self._pool.send_until_ns = monotonic_ns
        self._expired = end

    def skip_passed(self, start_ns: int, limit: int) -> bool:
        """Skips at most `limit` of the arrivals whose time has passed; returns whether there may be more of them.

        It takes about 1 ms, or one call of a slow client app, so that the event loop can work in between. For an
        attempt that takes over; to be called before `start`, with its argument.
        """
        return self._executor.skip(self._now_ns() - start_ns, limit)

    def start(self, start_ns: int) -> None:
        """Starts to send; the schedule's zero is `start_ns` of the monotonic clock. Does nothing after a stop."""
        if self._is_ending:
            return
        if self._state is not State.NEW:
            raise RuntimeError("start() was called twice")
        self._state = State.RUNNING
        self._start_ns = start_ns
        self._garbage.freeze()
        self._timer = build_timer(asyncio.get_running_loop(), self._dispatch)
        self._recorder.start_ns = start_ns
        self._arm(self._executor.start(start_ns))
        self._ticks.start()

    def begin_command(self, message: GroupCommand, at_ns: int, clients: Sequence[int]) -> None:
        """Interactive: lets a command take effect at that time of the monotonic clock, unless a newer one was given.

        Args:
            clients: the group's clients from then on, in order; all others are closed for good.
        """
        if not self._is_ending:
            self._executor.begin(Command(at_ns, message, clients))

    def keep_clients(self, clients: Sequence[int]) -> None:
        """Interactive: closes all clients but these for good; some of these may belong to other shards."""
        if not self._is_ending:
            self._executor.keep(clients)
            if self._cookies is not None:
                self._cookies.keep(clients)

    @property
    def commands(self) -> CommandProgress:
        """Interactive: how far the commands have been executed."""
        return self._executor.commands

    async def wait(self) -> End:
        """Waits for the end, and returns it; FINISHED if the schedule ran to its end and nothing is in flight.

        A programming error in the engine ends the load like a stop, and is raised here.
        """
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._end_as

    def stop(self, grace_ns: int, end: End, *, cut_rest: bool = True) -> None:
        """Ends the load, in any state; of several calls, the first `end` and the earliest end of the grace count.

        No request is sent from now on: the rest of the plan is recorded as CUT, or left to another attempt. Requests in
        flight may be answered until the grace ends; then they end as ABORTED, and their connections are closed.
        """
        if self._state is State.ENDED:
            return
        grace_ends_ns = self._now_ns() + grace_ns
        if not cut_rest:
            self._plan_cut.leave_rest()
        if self._state is State.STOPPING:
            self._grace_ends_ns = min(self._grace_ends_ns, grace_ends_ns)
            return
        self._state = State.STOPPING
        self._pool.on_end = None
        self._end_as = end
        self._grace_ends_ns = grace_ends_ns
        if self._timer is not None:
            self._timer.disarm()
        self._pool.send_until_ns = 0
        self._pool.cut_queued()
        self._plan_cut.record()
        self._ticks.start()

    async def close(self) -> None:
        """Closes connections and timers. Requests in flight are recorded as ABORTED; a plan's rest is not recorded."""
        self._end(CLOSED if self._end_as is FINISHED else self._end_as)
        await self._pool.close()
        self._source.close()
        if self._cookies is not None:
            self._cookies.keep(())
        self._garbage.thaw()
        self.routes.on_change = None

    # --- Read by the shard

    def take(self) -> tuple[memoryview, list[str]]:
        """Returns the rows since the last call, and the endpoints that their `host` column indexes."""
        return self._recorder.take()

    def take_captures(self) -> list[Capture]:
        """Returns the captures of the rows since the last call of `take`; to be called just before `take`."""
        return self._captures.take() if self._captures is not None else []

    @property
    def counters(self) -> Counters:
        """Totals so far, consistent at any time: planned = rows + in flight."""
        in_flight = self._pool.in_flight
        counters = self._recorder.counters(in_flight, in_flight - self._pool.queued)
        return counters if self._captures is None else replace(counters, captures_left_out=self._captures.left_out)

    @property
    def in_flight(self) -> int:
        """Requests that wait for a connection or for their response."""
        return self._pool.in_flight

    @property
    def connections(self) -> int:
        return len(self._pool.connections)

    def take_gauges(self) -> EngineGauges:
        """Returns the gauges, and forgets the longest stall."""
        return EngineGauges(
            self.in_flight, self.connections, self.stalls.take(), self._source.app_time, self._pool.long_waits
        )

    # --- The event loop's callbacks

    @property
    def _is_ending(self) -> bool:
        return self._state in (State.STOPPING, State.ENDED)

    def _dispatch(self) -> None:
        if self._state is not State.RUNNING:
            return  # the timer had expired before it was disarmed
        if self._now_ns() >= self._pool.send_until_ns:
            self.stop(self._stop_grace_ns, self._expired, cut_rest=False)
            return
        try:
            next_ns = self._executor.turn()
        except Exception as error:  # noqa: BLE001
            self._dispatch_failed(error)  # the event loop would only log it, and the load would stand still
        else:
            self._arm(next_ns, again=True)

    def _take_response(self, client: int, status: int, data: bytes, history: tuple[bytes, ...]) -> None:
        try:
            self._source.on_response(client, status, data, history)
        except Exception as error:  # noqa: BLE001
            self._pool.on_response = None
            self._dispatch_failed(error)

    def _dispatch_failed(self, error: Exception) -> None:
        if isinstance(error, AppError):
            self.stop(self._stop_grace_ns, failed(str(error)))
        else:
            self._error = error
            self.stop(0, failed(f"internal error: {error!r}"))

    def _arm(self, next_ns: int | None, *, again: bool = False) -> None:
        """Sets the time of the next turn; `again`: from the timer's own callback."""
        assert self._timer is not None
        if next_ns is None:
            self._timer.disarm()
        elif again:
            self._timer.arm_again(next_ns)
        else:
            self._timer.arm(next_ns)

    def _fail(self, error: Exception) -> None:
        """Ends the load at once; `wait` raises the error."""
        self._error = self._error or error
        self._end(failed(f"internal error: {error!r}"))

    def _on_tick(self, read_until_ns: int) -> bool:
        """Ends the load when it is over; returns whether it goes on."""
        if self._state is State.STOPPING and read_until_ns >= self._grace_ends_ns:
            self._pool.abort()
        if not self._pool.in_flight:
            self._executor.on_idle()
            if self._may_end():
                self._end(self._end_as)
        return self._state is not State.ENDED

    def _may_end(self) -> bool:
        if self._state is State.STOPPING:
            return self._plan_cut.is_done
        return self._executor.is_over() and self._now_ns() - self._start_ns >= self._executor.duration_ns

    def _end(self, end: End) -> None:
        if self._state is State.ENDED:
            return
        self._state = State.ENDED
        self._end_as = end
        self._plan_cut.leave_rest()
        self._pool.on_end = None
        self._pool.send_until_ns = 0
        if self._timer is not None:
            self._timer.close()
        self._ticks.stop()
        self._ended.set()
