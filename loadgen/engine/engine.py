"""The life of a run: prepare, start, the schedule's end or a stop, close."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from loadgen.arrivals.pacer import build_pacer
from loadgen.arrivals.schedule import Schedule
from loadgen.engine.errors import AppError
from loadgen.engine.executors.closed import ClosedDispatcher, ClosedPlan
from loadgen.engine.executors.interactive import Coming, PhasedDispatcher
from loadgen.engine.executors.open import Dispatcher, OpenDispatcher
from loadgen.engine.garbage import Collector
from loadgen.engine.http.app_response import MAX_HEARD_BYTES
from loadgen.engine.http.capture import Captures
from loadgen.engine.http.debug import DebugPool
from loadgen.engine.http.pool import Pool
from loadgen.engine.http.sources import SourceFactory
from loadgen.engine.recorder import Recorder
from loadgen.engine.routes import Routes
from loadgen.engine.stalls import AppTime, Stall, StallWatch
from loadgen.engine.timer import Timer, build_timer
from loadgen.protocol.batch import Capture
from loadgen.protocol.messages import (
    CLOSED,
    INTERACTIVE,
    KEEP_ALIVE,
    NO_CAPTURE,
    Counters,
    GroupDocument,
    Phase,
    ShardOrder,
)

# Time-outs, the end of the run and stalls of the loop are looked at this often.
TICK_S: Final = 0.01
_TICK_NS: Final = 10_000_000
_TICKS_PER_TENDING: Final = 100
# Rows of a cut plan recorded per turn of the loop (about a millisecond).
_CUT_PER_TURN: Final = 1000
# Sequence numbers of an attempt that cannot know how far the one before it came begin here, as no id may come twice.
# The controller makes 16 attempts at most, which fill the 32 bits of a record's field.
ATTEMPT_SEQUENCE_BITS: Final = 28
# The rest of a longer plan is not worth its memory: it is left to the controller to count.
MAX_CUT_ROWS: Final = 200_000


class _Phase(Enum):
    NEW = "new"
    RUNNING = "running"  # arrivals are dispatched, or the end of the schedule and what is in flight are awaited
    STOPPING = "stopping"  # no new request; the rest of the plan is recorded, what is in flight has its grace
    ENDED = "ended"


@dataclass(frozen=True)
class EngineGauges:
    """State of the engine; `stall` is the longest one of the event loop since the last look."""

    in_flight: int
    connections: int
    stall: Stall
    app_time: AppTime
    pool_waits: int


class Engine:
    """Sends the requests of one shard's clients. All methods belong to the event loop's thread.

    Args:
        order: which clients.
        document: what they do.
        source: makes their request source (`file_sources` for apps in a folder).
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
        if workload.capture != NO_CAPTURE:
            self._captures = Captures(workload.capture, workload.capture_bytes, self._recorder)
        self._pool = (Pool if routes.sends else DebugPool)(
            self._recorder,
            monotonic_ns,
            workload.connect_timeout_s,
            max_connections,
            workload.max_connections_per_host or sys.maxsize,
            workload.connection == KEEP_ALIVE,
            self._captures,
            is_closed_model=workload.model == CLOSED,
        )
        self._source = source(document, clients, routes.base_url)
        self._dispatcher: Dispatcher
        self._phased: PhasedDispatcher | None = None
        first_sequence = (order.attempt - 1) << ATTEMPT_SEQUENCE_BITS
        if workload.model == INTERACTIVE:
            self._dispatcher = self._phased = PhasedDispatcher(
                workload,
                clients,
                document.seed,
                first_sequence,
                self._source,
                routes,
                self._pool,
                self._recorder,
                self._arm,
                self._dispatch_failed,
            )
            self._duration_ns = 0  # it ends when it is stopped, or its last client is closed
        elif workload.model == CLOSED:
            self._dispatcher = ClosedDispatcher(
                ClosedPlan(workload, clients, document.seed),
                first_sequence,
                self._source,
                routes,
                self._pool,
                self._recorder,
                self._arm,
                self._dispatch_failed,
            )
            self._duration_ns = 0  # it ends when its clients have
        else:
            schedule = Schedule([(round(duration_s * 1e9), rate_rps) for duration_s, rate_rps in workload.schedule])
            pacer = build_pacer(
                workload.arrival_process,
                schedule,
                clients,
                document.total_clients,
                document.seed,
                workload.index,
                workload.arrival_parameters,
            )
            self._dispatcher = OpenDispatcher(
                iter(pacer),
                self._source,
                routes,
                self._pool,
                self._recorder,
                round(workload.max_lateness_s * 1e9),
                workload.max_in_flight,
            )
            self._duration_ns = schedule.duration_ns
        self._collector = Collector()
        self._phase = _Phase.NEW
        self._reason = ""
        self._error: Exception | None = None
        self._is_cut = False  # a stop has recorded the rest of the plan, or has left it alone
        self._start_ns = 0
        self._expired_reason = ""
        self._grace_ends_ns = 0
        self._ended = asyncio.Event()
        self._timer: Timer | None = None
        self._tick_handle: asyncio.Handle | None = None
        self._ticks = 0
        self._ticked_ns = 0
        self.stalls = StallWatch(self._source.app_time, monotonic_ns, _TICK_NS)
        routes.on_change = self._pool.retain

    # --- The run

    async def prepare(self) -> None:
        """Loads the client app for each client, or prepares the static request.

        Raises:
            AppError: a sentence, and the last lines of the app's traceback where there is one.
        """
        await self._source.prepare()
        if self._source.hears:
            self._pool.listen(self._hear, MAX_HEARD_BYTES)
        self._dispatcher.prepare()
        self._collector.collect()

    def send_until(self, monotonic_ns: int, reason: str) -> None:
        """Sets the time after which the engine stops by itself, for `reason`, and leaves the rest of the plan alone.

        It is looked at before each turn: a process that was stopped or suspended sends nothing when it wakes too late.
        """
        if self._phase in (_Phase.STOPPING, _Phase.ENDED):
            return  # nothing is sent any more
        self._pool.send_until_ns = monotonic_ns
        self._expired_reason = reason

    def skip_passed(self, start_ns: int, limit: int) -> bool:
        """Leaves out at most `limit` of the arrivals that have passed; whether there may be more.

        For an attempt that takes over, before `start`; `start_ns` is the one that `start` will get.
        """
        return self._dispatcher.skip(self._now_ns() - start_ns, limit)

    def start(self, start_ns: int) -> None:
        """Begins to send; the schedule's zero is `start_ns` of the monotonic clock. Does nothing after a stop."""
        if self._phase in (_Phase.STOPPING, _Phase.ENDED):
            return
        if self._phase is not _Phase.NEW:
            raise RuntimeError("the engine was started before")
        self._phase = _Phase.RUNNING
        self._start_ns = start_ns
        self._collector.freeze()
        self._timer = build_timer(asyncio.get_running_loop(), self._dispatch)
        self._recorder.start_ns = start_ns
        self._arm(self._dispatcher.start(start_ns))
        self._begin_ticks()

    def begin_phase(self, phase: Phase, at_ns: int, clients: Sequence[int]) -> None:
        """Interactive: lets a phase begin at that time of the monotonic clock, with these clients of the group, in
        order; those that are missing are closed for good. A phase that is older than one given before is left alone.
        """
        if self._phased is None:
            raise RuntimeError("only an interactive load has phases")
        if self._phase in (_Phase.NEW, _Phase.RUNNING):
            self._phased.begin(Coming(at_ns, phase, clients))

    def keep_clients(self, clients: Sequence[int]) -> None:
        """Interactive: closes for good all clients but these, of which some may be other shards'."""
        if self._phased is not None and self._phase in (_Phase.NEW, _Phase.RUNNING):
            self._phased.keep(clients)

    @property
    def phases(self) -> tuple[int, list[int]]:
        """Interactive: numbers of the phase in force, 0 where there is none, and of the newest ones that are done."""
        return (self._phased.begun, self._phased.done) if self._phased is not None else (0, [])

    async def wait(self) -> str:
        """Waits for the end; '' when the schedule ran to its end and nothing is in flight, else the reason.

        A programming error in the engine ends the load like a stop, and is raised here.
        """
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._reason

    def stop(self, grace_ns: int, reason: str, *, cut_rest: bool = True) -> None:
        """Ends the load, in any phase; the first reason counts, the earliest end of a grace, too.

        No request is sent from now on: the rest of the plan is recorded as CUT, or left to another attempt. What is in
        flight may be answered until the grace ends; then it is ABORTED and its connection closed.
        """
        if self._phase is _Phase.ENDED:
            return
        grace_ends_ns = self._now_ns() + grace_ns
        if not cut_rest:
            self._is_cut = True
        if self._phase is _Phase.STOPPING:
            self._grace_ends_ns = min(self._grace_ends_ns, grace_ends_ns)
            return
        self._phase = _Phase.STOPPING
        self._pool.on_end = None
        self._reason = reason
        self._grace_ends_ns = grace_ends_ns
        if self._timer is not None:
            self._timer.disarm()
        self._pool.send_until_ns = 0
        self._pool.cut_waiters()
        self._cut()
        self._begin_ticks()

    async def close(self) -> None:
        """Closes connections and timers. What was still in flight is recorded as ABORTED; a plan's rest is not."""
        self._end(self._reason or "closed")
        await self._pool.close()
        self._source.close()
        self._collector.thaw()
        self.routes.on_change = None

    # --- What the shard reads

    def take(self) -> tuple[memoryview, list[str]]:
        """The rows since the last call, and the host table that their `host` column indexes."""
        return self._recorder.take()

    def take_captures(self) -> list[Capture]:
        """What was captured of the rows since the last call of `take`; to be called just before that."""
        return self._captures.take() if self._captures is not None else []

    @property
    def counters(self) -> Counters:
        """Totals so far, in accordance with each other at any time: planned = rows + in flight."""
        in_flight = self._pool.in_flight
        counters = self._recorder.counters(in_flight, in_flight - self._pool.waiting)
        return counters if self._captures is None else replace(counters, captures_left_out=self._captures.left_out)

    @property
    def in_flight(self) -> int:
        """Requests that wait for a connection or for their response."""
        return self._pool.in_flight

    @property
    def connections(self) -> int:
        return len(self._pool.connections)

    def take_gauges(self) -> EngineGauges:
        """The gauges; the longest stall is forgotten."""
        return EngineGauges(
            self.in_flight, self.connections, self.stalls.take(), self._source.app_time, self._pool.long_waits
        )

    # --- The event loop's callbacks

    def _dispatch(self) -> None:
        if self._phase is not _Phase.RUNNING:
            return  # the timer had gone off before it was disarmed
        if self._now_ns() >= self._pool.send_until_ns:
            self.stop(self._stop_grace_ns, self._expired_reason, cut_rest=False)
            return
        try:
            next_ns = self._dispatcher.turn()
        except Exception as error:  # noqa: BLE001
            self._dispatch_failed(error)  # raised to the loop, it would be logged, and the load would stand still
        else:
            self._arm(next_ns, again=True)

    def _hear(self, client: int, status: int, data: bytes) -> None:
        try:
            self._source.hear(client, status, data)
        except Exception as error:  # noqa: BLE001
            self._pool.on_response = None
            self._dispatch_failed(error)

    def _dispatch_failed(self, error: Exception) -> None:
        if isinstance(error, AppError):
            self.stop(self._stop_grace_ns, str(error))
        else:
            self._error = error
            self.stop(0, f"internal error: {error!r}")

    def _arm(self, next_ns: int | None, *, again: bool = False) -> None:
        """`again`: from the timer's own callback."""
        assert self._timer is not None
        if next_ns is None:
            self._timer.disarm()
        elif again:
            self._timer.arm_again(next_ns)
        else:
            self._timer.arm(next_ns)

    def _begin_ticks(self) -> None:
        if self._tick_handle is None:
            self._ticked_ns = self._now_ns()
            self.stalls.start(self._ticked_ns)
            self._tick_handle = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        try:
            self._look_after()
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """A programming error in a callback that will not come again: `wait` raises it."""
        self._error = self._error or error
        self._end(f"internal error: {error!r}")

    def _look_after(self) -> None:
        now_ns = self._now_ns()
        # What had come by the last tick was read since then. What came later may still lie in its socket: after a stall
        # of ours, the target would seem not to have answered in time.
        read_until_ns, self._ticked_ns = self._ticked_ns, now_ns
        self.stalls.tick(now_ns)
        self._ticks += 1
        if self._ticks % _TICKS_PER_TENDING == 0:
            self._collector.tend()
        self._pool.sweep(read_until_ns)
        if self._phase is _Phase.STOPPING and read_until_ns >= self._grace_ends_ns:
            self._pool.abort()
        if self._phased is not None and not self._pool.in_flight:
            self._phased.settle()
        if not self._pool.in_flight and self._may_end(now_ns):
            self._end(self._reason)
        else:
            self._tick_handle = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _may_end(self, now_ns: int) -> bool:
        if self._phase is _Phase.STOPPING:
            return self._is_cut
        return self._dispatcher.is_over() and now_ns - self._start_ns >= self._duration_ns

    def _cut(self) -> None:
        if self._phase is not _Phase.STOPPING or self._is_cut:
            return
        try:
            if self._recorder.cut_rows >= MAX_CUT_ROWS:
                self._recorder.cut_short = True
                self._is_cut = True
            elif self._dispatcher.cut(_CUT_PER_TURN):
                asyncio.get_running_loop().call_soon(self._cut)
            else:
                self._is_cut = True
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _end(self, reason: str) -> None:
        if self._phase is _Phase.ENDED:
            return
        self._phase = _Phase.ENDED
        self._reason = reason
        self._pool.on_end = None
        self._pool.send_until_ns = 0
        if self._timer is not None:
            self._timer.close()
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        self.stalls.stop()
        self._ended.set()
