"""ShardRunner: one attempt of one shard, from its lease to its final batch: where the parts of a shard meet.

It has more than 300 lines because each part calls the others through it alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from enum import Enum
from pathlib import Path

from redis.exceptions import RedisError

from loadgen.apps.cache import AppCache
from loadgen.device.clock import measure_async
from loadgen.device.process import raise_descriptor_limit
from loadgen.device.redis_connections import async_client
from loadgen.device.running_shards import mark, unmark
from loadgen.device.spool import Spool
from loadgen.engine import AppError, Engine, Routes
from loadgen.engine.end import FINISHED, STOPPED, End, failed
from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.protocol.codec import MessageError
from loadgen.protocol.enums import DesiredState, OnWorkerLoss, ShardState
from loadgen.protocol.keys import LEASE_RENEW_S
from loadgen.protocol.messages import ClockSample, GroupDocument, ShardOrder, ShardStatus
from loadgen.protocol.settings import WorkerSettings
from loadgen.shard.background import Background
from loadgen.shard.clock import Clock
from loadgen.shard.commands import InteractiveCommands
from loadgen.shard.desired import DesiredStateReader
from loadgen.shard.lease import TAKEN, Fence
from loadgen.shard.lease_keeper import RENEW_AGAIN_S, SUPERSEDED, LeaseKeeper
from loadgen.shard.preparation import build_engine, fetch_app, needs_app
from loadgen.shard.sealer import Sealer
from loadgen.shard.start_clock import STEP_NS, StartClock
from loadgen.shard.status import StatusWriter
from routing.table import RoutingRecord

logger = logging.getLogger(__name__)

DOCUMENT_TIMEOUT_S = 60.0
SHUTDOWN_GRACE_S = 0.25
HOLD_ALONE_S = 60.0  # a shard that waits for its start gives up when it cannot reach the broker, or was forgotten
SKIPPED_PER_TURN = 10_000
_SEAL_CHECK_S = 0.05
_WRITE_TRIES, _RETRY_PAUSE_S = 20, 0.5
_FINAL_STATUS_TIMEOUT_S = 120.0  # the broker may be away when a load ends

SHUT_DOWN = End(ShardState.LOST, "worker shut down")
SPOOL_FULL = failed("spool full")
OUT_OF_TOUCH = End(ShardState.LOST, f"it heard nothing of its group for {HOLD_ALONE_S:.0f} s before the start")
NOT_TAKEN_OVER = End(ShardState.LOST, "stopped before it took over")


class State(Enum):
    """The state of a runner; it only moves forward."""

    PREPARING = "preparing"  # until the engine is ready to send
    HOLDING = "holding"  # it waits for its start
    SENDING = "sending"  # the engine was started, or stopped for good
    ENDED = "ended"  # nothing is recorded any more


class ShardRunner:
    """Runs one attempt of a shard on the running event loop.

    Redis may be away at any time after the start: the load goes on, batches go to the spool, the rest is tried again.
    """

    def __init__(self, order: ShardOrder, settings: WorkerSettings, clock: Clock | None = None) -> None:
        self._order = order
        self._settings = settings
        self._clock = clock or Clock()
        self._spool = Spool(settings.spool_dir, settings.spool_limit_bytes)
        self._sealer = Sealer(order, settings.name, self._spool)
        self._apps = AppCache(settings.apps_cache_dir, settings.apps_cache_limit_bytes)
        self._client = async_client(settings.redis)
        self._fence = Fence(self._client, order)
        limit = raise_descriptor_limit()
        status = ShardStatus(
            order.shard_id, order.attempt, settings.name, os.getpid(), ShardState.STARTING, descriptor_limit=limit
        )
        self._status = StatusWriter(self._fence, status, self._clock)
        self._desired = DesiredStateReader(
            self._client, order.group_id, self._take_document, self._take_route, self._clock
        )
        self._lease = LeaseKeeper(self._fence.renew, self._stop, self._send_until, self._clock)
        self._start_clock = StartClock(
            lambda rounds: measure_async(self._client, rounds), self._take_sample, self._clock, order.clock_step_ns
        )
        self._routes: Routes | None = None
        self._engine: Engine | None = None
        self._commands: InteractiveCommands | None = None
        self._document: GroupDocument | None = None
        self._state = State.PREPARING
        self._stop_as: End | None = None  # how the load is to end
        self._axis_offset_ns = 0  # of the broker's clock, in which the rows' times are given
        self._is_axis_fixed = order.experiment_id is not None  # until the end of the interactive experiment
        self._start_known = asyncio.Event()  # set by a document that says run, and by any stop
        self._grace_s = SHUTDOWN_GRACE_S
        self._background = Background(lambda error: self._stop(failed(f"internal error: {error!r}")), self._clock)

    # --- The life of an attempt

    async def run(self) -> None:
        """Returns when the final batch is sealed, or at once when this attempt is stale or its order void."""
        for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGQUIT):
            asyncio.get_running_loop().add_signal_handler(signum, self._stop, SHUT_DOWN)
        order = self._order
        self._spool.open()
        running = mark(self._settings.spool_dir, order)  # before anything that takes time: the agent drains us
        try:
            if order.void_after_broker_ns is None and not await self._desired.is_wanted():
                logger.warning("shard %s: the order is refused: its group %s has ended", order.shard_id, order.group_id)
                return
            self._lease.begin()
            if (result := await self._fence.acquire()) != TAKEN:
                logger.warning("shard %s: the order of attempt %s is %s", order.shard_id, order.attempt, result)
                return
            running = mark(self._settings.spool_dir, order, leased=True)
            await self._run_leased()
        finally:
            unmark(self._settings.spool_dir, running)
            await self._client.aclose()

    async def _run_leased(self) -> None:
        self._background.start(self._lease.keep())
        self._background.start(self._status.keep())
        self._background.start(self._watch_contact())
        try:
            await self._status.write()
            try:
                end = await self._prepare() or await self._drive()
            except AppError as error:
                end = failed(str(error))
            except Exception as error:
                await self._end(failed(f"the shard's process failed: {error!r}"))
                raise
            await self._end(end)
        finally:
            await self._background.cancel()
            if self._engine is not None:
                await self._engine.close()
            self._apps.release()

    async def _prepare(self) -> End | None:
        """Prepares the load up to READY; returns its end if that comes before. Raises AppError."""
        try:
            document = await self._background.until_stopped(self._desired.first_document(DOCUMENT_TIMEOUT_S))
        except TimeoutError:
            group_id = self._order.group_id
            return failed(f"the document of group {group_id} did not appear within {DOCUMENT_TIMEOUT_S:.0f} s")
        except MessageError as error:
            return failed(str(error))
        if document is None:
            return self._stop_as
        self._take_document(document)
        self._sealer.workload = workload = document.workload
        fetched: Path | None = None
        if needs_app(workload, self._settings):
            fetched = await self._background.until_stopped(fetch_app(workload, self._apps, self._client))
            if fetched is None:
                return self._stop_as
        engine, self._routes = build_engine(self._order, document, self._settings, fetched)
        await self._lease.renew()  # the app's modules may take a while, each without a turn of the loop
        try:
            await engine.prepare()
        except AppError:
            await engine.close()
            raise
        self._engine = engine
        self._lease.limit_sending()
        await self._background.with_redis(self._desired.refresh)
        await self._background.with_redis(self._start_clock.measure)
        self._state = State.HOLDING
        if self._stop_as is None:
            await self._status.set_state(ShardState.READY)
            self._background.start(self._desired.follow(), with_load=True)
            self._background.start(self._start_clock.keep(), with_load=True)
        return None

    async def _drive(self) -> End:
        """Runs the load from READY to the engine's end, which it returns."""
        engine = self._engine
        assert engine is not None  # _prepare has succeeded
        await self._start_known.wait()
        await self._renew_expired_lease()
        await self._confirm_clock()
        start_ns = self._map_start()
        while self._order.takes_over and self._stop_as is None and engine.skip_passed(start_ns, SKIPPED_PER_TURN):
            await asyncio.sleep(0)
        self._state = State.SENDING
        self._lease.is_sending = True
        if self._stop_as is not None:
            self._stop_unstarted(engine, self._stop_as)
        else:
            self._start(engine, start_ns)
        self._background.start(self._seal(), with_load=True)
        return await engine.wait()

    async def _renew_expired_lease(self) -> None:
        """Before the first request: the part of a shard that waited out of reach may be another attempt's now."""
        while not self._is_lost and self._lease.has_expired:
            if not await self._lease.renew():
                await self._clock.sleep(RENEW_AGAIN_S)

    async def _confirm_clock(self) -> None:
        """Notices that the broker's clock was set just before the start of a planned load."""
        document = self._document
        if document is None or document.start_broker_ns is None or document.phase is not None:
            return
        if not self._order.takes_over and self._stop_as is None:  # else the start has passed
            try:
                await self._start_clock.confirm(document.start_broker_ns)
            except RedisError as error:
                logger.info("the clocks cannot be compared: %s", error)

    def _map_start(self) -> int:
        """Returns the start by the monotonic clock. A load that is stopped before its start counts from now."""
        document = self._document
        start_broker_ns = document.start_broker_ns if document else None
        start_ns = None if start_broker_ns is None else self._start_clock.start_ns(start_broker_ns)
        now_ns = self._clock.monotonic_ns()
        if self._stop_as is not None or document is None or start_broker_ns is None or start_ns is None:
            return now_ns
        if document.phase is not None and start_ns > now_ns:
            # An interactive group starts when it is spawned. Since then the broker's clock was set back: its clients
            # that were added later begin before this time, and no row may lie before the start.
            start_ns, start_broker_ns = now_ns, now_ns + self._axis_offset_ns
        self._sealer.epoch_broker_ns = start_broker_ns
        self._sealer.account.look_around()
        return start_ns

    def _start(self, engine: Engine, start_ns: int) -> None:
        document = self._document
        assert document is not None
        if document.phase is not None:
            self._commands = InteractiveCommands(engine, self._desired, self._status, self._stop, self._clock)
            self._commands.take(document, self._start_clock.latest)
        engine.start(start_ns)
        left_s = max(0, start_ns - self._clock.monotonic_ns()) / 1e9
        asyncio.get_running_loop().call_later(left_s, self._sealer.account.begin)
        self._background.start(self._status.set_state(ShardState.RUNNING))
        if self._commands is not None:
            self._background.start(self._commands.report(), with_load=True)
            self._background.start(self._commands.watch_controller(), with_load=True)

    def _stop_unstarted(self, engine: Engine, end: End) -> None:
        """Ends a load before its start. Only a first attempt that was told to stop records the plan's arrivals."""
        if self._order.takes_over and end is STOPPED:
            self._stop_as = end = NOT_TAKEN_OVER
        engine.stop(0, end, cut_rest=not end.is_lost and not self._order.takes_over)

    async def _end(self, end: End) -> None:
        """Seals the final batch, writes the final status, and gives the lease back."""
        self._state = State.ENDED
        if self._stop_as is SUPERSEDED:
            end = SUPERSEDED
        if self._engine is not None:
            self._sealer.seal(self._engine, self._clock.monotonic_ns(), end=end)
        elif end is not SUPERSEDED:
            self._sealer.seal_empty(end)
        self._background.cancel_with_load()
        for _ in range(_WRITE_TRIES):
            if self._sealer.write():
                break
            await self._clock.sleep(_RETRY_PAUSE_S)
        else:
            end = failed(self._sealer.error) if end is FINISHED else end
        logger.info("shard %s ends: %s", self._order.shard_id, end.reason or "its schedule ran to the end")
        if end is SUPERSEDED:
            # The newer attempt writes the shard's status from now on, and waits for this.
            with contextlib.suppress(RedisError):
                await self._fence.release()
            return
        try:
            async with asyncio.timeout(_FINAL_STATUS_TIMEOUT_S):
                await self._status.set_state(end.state, end.reason)
                while self._status.is_unwritten:
                    await self._clock.sleep(_RETRY_PAUSE_S)
                    await self._status.write()
                await self._fence.release()
        except (TimeoutError, RedisError) as error:
            logger.warning("the state %s cannot be written, or the lease not be released: %r", end.state, error)

    # --- News from the controller

    def _take_document(self, document: GroupDocument) -> None:
        self._document = document
        self._grace_s = document.stop_grace_s
        self._lease.is_replaceable = document.on_worker_loss == OnWorkerLoss.REPLACE
        self._cut_batch(document)
        if self._commands is not None:
            self._commands.take(document, self._start_clock.latest)
        if document.state == DesiredState.STOP:
            self._stop(STOPPED)
        elif document.state == DesiredState.RUN and document.start_broker_ns is not None and self._takes_part(document):
            self._know_start()

    def _takes_part(self, document: GroupDocument) -> bool:
        """Returns whether the shard's clients take part.

        Those of an interactive group do when all clients that were added with them are ready.
        """
        first = min(first for first, _, _ in self._order.clients)
        return not any(begin <= first < end for begin, end in document.pending)

    def _cut_batch(self, document: GroupDocument) -> None:
        """Seals the rows so far where an interactive experiment begins or ends, or its tracing is switched."""
        if self._state is State.ENDED:
            return
        sealer = self._sealer
        is_other = (document.experiment_id, document.tracing) != (sealer.experiment_id, sealer.traced)
        if is_other and self._engine is not None and self._state is State.SENDING:
            sealer.seal(self._engine, self._clock.monotonic_ns())
        if document.experiment_id != sealer.experiment_id:
            self._is_axis_fixed = False
            if self._commands is not None:
                self._background.start(self._start_clock.look(), with_load=True)
        sealer.experiment_id, sealer.traced, sealer.version = document.experiment_id, document.tracing, document.version

    def _take_route(self, route: RoutingRecord | None) -> None:
        if self._routes is not None:
            self._routes.update(route)

    def _take_sample(self, sample: ClockSample, is_start: bool) -> None:
        self._sealer.clock = sample
        if is_start:
            # Until the start is known, a plan that is cut counts its times from now.
            self._sealer.epoch_broker_ns = self._clock.monotonic_ns() + sample.offset_ns
            self._axis_offset_ns = sample.offset_ns
            self._status.take_clock(sample)
        elif self._commands is not None and not self._is_axis_fixed:
            if abs(sample.offset_ns - self._axis_offset_ns) >= STEP_NS:
                self._follow_step(sample.offset_ns)
            self._is_axis_fixed = self._sealer.experiment_id is not None

    def _follow_step(self, offset_ns: int) -> None:
        """Gives the rows of an interactive group the times of a broker's clock that was set.

        Its experiments start in that clock. The rows of an experiment, as those of a plan, keep the times of the clock
        at its start.
        """
        if self._engine is None or self._state is not State.SENDING:
            return
        self._sealer.seal(self._engine, self._clock.monotonic_ns())
        self._sealer.epoch_broker_ns += offset_ns - self._axis_offset_ns
        self._axis_offset_ns = offset_ns

    def _send_until(self, monotonic_ns: int, end: End) -> None:
        if self._engine is not None:
            self._engine.send_until(monotonic_ns, end)

    # --- The stop

    def _stop(self, end: End) -> None:
        """Ends the load, in any state. The first end stands, but for a newer attempt; the shortest grace, too."""
        if self._stop_as is None or end is SUPERSEDED:
            self._stop_as = end
            logger.info("shard %s stops: %s", self._order.shard_id, end.reason)
        if end is SUPERSEDED:
            self._grace_s = 0.0
        if self._engine is not None and self._state is State.SENDING:
            # The rest of the plan is another attempt's, once there is one, or may be one.
            is_left = end is SUPERSEDED or (self._lease.is_replaceable and end.is_lost)
            self._engine.stop(int(self._grace_s * 1e9), end, cut_rest=not is_left)
        self._background.stopped.set()
        self._know_start()

    def _know_start(self) -> None:
        self._start_known.set()
        self._start_clock.fix()

    @property
    def _is_lost(self) -> bool:
        return self._stop_as is not None and self._stop_as.is_lost

    # --- Tasks beside the load

    async def _watch_contact(self) -> None:
        """Stops a shard that waits for its start, but cannot read its group's document any more."""
        while not self._start_known.is_set():
            raise_if_cancelled()
            await self._clock.sleep(LEASE_RENEW_S)
            alone_ns = self._clock.monotonic_ns() - self._desired.seen_ns
            if not self._start_known.is_set() and alone_ns >= HOLD_ALONE_S * 1e9:
                self._stop(OUT_OF_TOUCH)

    async def _seal(self) -> None:
        while True:
            raise_if_cancelled()
            await self._clock.sleep(_SEAL_CHECK_S)
            if self._engine is not None and self._sealer.seal_if_due(self._engine, self._clock.monotonic_ns()):
                if self._sealer.error:
                    self._stop(failed(self._sealer.error))
                elif self._sealer.is_spool_full():
                    self._stop(SPOOL_FULL)
