"""The shard runner: one attempt of one shard, from its lease to its final batch, around the engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from redis.exceptions import RedisError

from loadgen.apps.cache import AppCache, AppUnavailableError
from loadgen.device.clock import measure_async
from loadgen.device.process import descriptors_left, raise_descriptor_limit
from loadgen.device.redis_connections import async_client
from loadgen.device.running_shards import mark, unmark
from loadgen.device.spool import Spool
from loadgen.engine import AppError, Engine, Routes, build_routes, file_sources, is_local
from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.protocol.codec import MessageError
from loadgen.protocol.enums import DesiredState, OnWorkerLoss, ShardState
from loadgen.protocol.environment import WorkerSettings
from loadgen.protocol.keys import GROUP_LEASE_S, LEASE_RENEW_S, LEASE_TTL_MS
from loadgen.protocol.messages import GroupCommand, GroupDocument, ShardOrder, ShardStatus
from loadgen.shard.desired import DesiredStateReader
from loadgen.shard.lease import TAKEN, Fence
from loadgen.shard.sealer import Sealer
from loadgen.shard.status import StatusWriter
from routing.table import RoutingRecord

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

DOCUMENT_TIMEOUT_S = 60.0
SHUTDOWN_GRACE_S = 0.25
DESCRIPTORS_KEPT = 32  # for the spool, the broker, name look-ups and the client app: connections may not take these
_SEAL_CHECK_S = 0.05
_CLOCK_ROUNDS, _CLOCK_ROUNDS_LATER = 50, 5
_CLOCK_EVERY_S = 5.0
_DRIFT_NS = 250_000  # two quartz clocks part by 50 µs a second at most, over _CLOCK_EVERY_S
_WRITE_TRIES, _RETRY_PAUSE_S = 20, 0.5
_RENEW_AGAIN_S = 0.25
_CANCELLED_WITHIN_S = 5.0
_LAST_WORDS_TIMEOUT_S = 120.0  # the broker may be away when a load ends

_CATCH_UP_NS, _AHEAD_NS = 500_000_000, 1_000_000_000  # of an interactive group's phase

HOLD_ALONE_S = 60.0  # a shard that waits for its start gives up when it cannot reach the broker, or was forgotten
STATUS_EVERY_S = 10.0  # written again although nothing changed: Redis may have lost it
SKIPPED_PER_TURN = 10_000  # about 10 ms

STOPPED, SHUT_DOWN, SPOOL_FULL, SUPERSEDED = "stopped", "worker shut down", "spool full", "superseded"
LEASE_EXPIRED = f"its lease was not renewed for {LEASE_TTL_MS / 1000:g} s"
OUT_OF_TOUCH = f"it heard nothing of its group for {HOLD_ALONE_S:.0f} s before the start"
NOT_TAKEN_OVER = "stopped before it took over"
FORGOTTEN = f"its group's document was gone for {GROUP_LEASE_S} s"
# Any reason that is not here means that the shard failed.
_END_OF = {
    "": ShardState.FINISHED,
    STOPPED: ShardState.STOPPED,
    SHUT_DOWN: ShardState.LOST,
    SUPERSEDED: ShardState.LOST,
    LEASE_EXPIRED: ShardState.LOST,
    OUT_OF_TOUCH: ShardState.LOST,
    NOT_TAKEN_OVER: ShardState.LOST,
    FORGOTTEN: ShardState.LOST,
}


def _end_of(reason: str) -> ShardState:
    """The end, one of ENDS, that a reason stands for."""
    return _END_OF.get(reason, ShardState.FAILED)


def _active(document: GroupDocument) -> list[int]:
    return [client for begin, end in document.active for client in range(begin, end)]


class ShardRunner:
    """Runs one attempt of a shard on the running event loop.

    Redis may be away at any time after the start: the load goes on, batches go to the spool, the rest is tried again.
    """

    def __init__(self, order: ShardOrder, settings: WorkerSettings) -> None:
        self._order = order
        self._settings = settings
        self._spool = Spool(settings.spool_dir, settings.spool_limit_bytes)
        self._sealer = Sealer(order, settings.name, self._spool)
        self._apps = AppCache(settings.apps_cache_dir, settings.apps_cache_limit_bytes)
        self._client = async_client(settings.redis)
        self._fence = Fence(self._client, order)
        status = ShardStatus(
            order.shard_id,
            order.attempt,
            settings.name,
            os.getpid(),
            ShardState.STARTING,
            descriptor_limit=raise_descriptor_limit(),
        )
        self._status = StatusWriter(self._fence, status)
        self._routes: Routes | None = None
        self._desired = DesiredStateReader(self._client, order.group_id, self._obey, self._take_route)
        self._engine: Engine | None = None
        self._document: GroupDocument | None = None
        self._stopped = asyncio.Event()
        self._run_wanted = asyncio.Event()  # set by a document that says run, and by any stop
        self._stop_reason = ""
        self._ended = False
        self._phase: GroupCommand | None = None  # the newest that was commanded
        self._away = False  # the last renewal of the lease failed
        self._begun = False  # the engine has been started, or stopped for good
        self._renewed_ns = 0  # when the last renewal of the lease that succeeded was begun
        self._grace_s = SHUTDOWN_GRACE_S
        self._tasks: list[asyncio.Task[None]] = []

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
            self._renewed_ns = time.monotonic_ns()
            if (result := await self._fence.acquire()) != TAKEN:
                logger.warning("shard %s: the order of attempt %s is %s", order.shard_id, order.attempt, result)
                return
            running = mark(self._settings.spool_dir, order, leased=True)
            await self._run_leased()
        finally:
            unmark(self._settings.spool_dir, running)
            await self._client.aclose()

    async def _run_leased(self) -> None:
        self._spawn(self._keep_lease())
        self._spawn(self._keep_status())
        try:
            await self._status.write()
            try:
                reason = await self._prepare()
                if not reason:
                    reason = await self._drive()
            except AppError as error:
                reason = str(error)
            except Exception as error:
                await self._end(f"the shard's process failed: {error!r}")
                raise
            await self._end(reason)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:  # bounded: a library that swallows the cancel must not keep the slot
                await asyncio.wait(self._tasks, timeout=_CANCELLED_WITHIN_S)
            if self._engine is not None:
                await self._engine.close()
            self._apps.release()

    async def _prepare(self) -> str:
        """Up to READY; the reason of an end before that, or ''. AppError passes through."""
        try:
            document = await self._unless_stopped(self._desired.first_document(DOCUMENT_TIMEOUT_S))
        except TimeoutError:
            return f"the document of group {self._order.group_id} did not appear within {DOCUMENT_TIMEOUT_S:.0f} s"
        except MessageError as error:
            return str(error)
        if document is None:
            return self._stop_reason
        self._obey(document)
        self._sealer.workload = workload = document.workload
        fetched: Path | None = None
        if workload.client_app_digest is not None and not is_local(workload.client_app, self._settings.apps_dir):
            fetched = await self._unless_stopped(self._fetch_app(workload.client_app, workload.client_app_digest))
            if fetched is None:
                return self._stop_reason
        self._routes = build_routes(
            workload,
            document.seed,
            self._order.shard_index,
            self._settings.router,
            self._settings.static_host,
        )
        engine = Engine(
            self._order,
            document,
            file_sources(self._settings.apps_dir, fetched),
            self._routes,
            max_connections=max(1, descriptors_left() - DESCRIPTORS_KEPT),
        )
        await self._renew_lease()  # the app's modules may take a while, each without a turn of the loop
        try:
            await engine.prepare()
        except AppError:
            await engine.close()
            raise
        self._engine = engine
        self._limit_sending()
        await self._unless_stopped(self._patiently(self._desired.refresh))
        await self._unless_stopped(self._patiently(self._measure_start_clock))
        if self._stop_reason:
            return ""
        await self._status.say(ShardState.READY)
        self._spawn(self._desired.follow())
        self._spawn(self._keep_clock())
        return ""

    async def _fetch_app(self, name: str | None, digest: str) -> Path:
        """The folder of a client app that is not one of this worker's own. Raises AppError."""
        try:
            return await self._apps.folder(self._client, digest)
        except AppUnavailableError as error:
            raise AppError(
                f"client app {name!r}: it is not among this worker's own (galileo_apps_dir), and cannot be had from "
                f"the repository: {error}"
            ) from error

    async def _drive(self) -> str:
        """From READY to the engine's end; returns its reason."""
        engine = self._engine
        assert engine is not None  # _prepare has succeeded
        await self._run_wanted.wait()
        await self._make_sure_of_the_lease()
        start_ns = self._start_ns()
        while self._order.takes_over and not self._stop_reason and engine.skip_passed(start_ns, SKIPPED_PER_TURN):
            await asyncio.sleep(0)
        self._begun = True
        if self._stop_reason:
            self._stop_unstarted(engine)
        else:
            self._take_phase()
            engine.start(start_ns)
            left_s = max(0, start_ns - time.monotonic_ns()) / 1e9
            asyncio.get_running_loop().call_later(left_s, self._sealer.account.begin)
            self._spawn(self._status.say(ShardState.RUNNING))
            if self._phase is not None:
                self._spawn(self._tell_phases())
                self._spawn(self._watch_group_lease())
        self._spawn(self._seal())
        return await engine.wait()

    async def _make_sure_of_the_lease(self) -> None:
        """Before the first request: the part of a shard that waited out of reach may be another attempt's now."""
        while _end_of(self._stop_reason) != ShardState.LOST and time.monotonic_ns() >= self._expires_ns:
            if not await self._renew_lease():
                await asyncio.sleep(_RENEW_AGAIN_S)

    def _start_ns(self) -> int:
        """The start by the monotonic clock, mapped once and never again: the schedule must not move with later samples.

        A load that is stopped before its start counts its times from now.
        """
        start_broker_ns = self._document.start_broker_ns if self._document else None
        clock = self._status.status.clock
        if self._stop_reason or start_broker_ns is None or clock is None:
            return time.monotonic_ns()
        self._sealer.epoch_broker_ns = start_broker_ns
        self._sealer.account.look_around()
        return start_broker_ns - clock.offset_ns

    def _stop_unstarted(self, engine: Engine) -> None:
        """Only who was first, and was told to stop, speaks for the plan's arrivals; any other leaves them alone."""
        if self._order.takes_over and self._stop_reason == STOPPED:
            self._stop_reason = NOT_TAKEN_OVER
        is_lost = _end_of(self._stop_reason) == ShardState.LOST
        engine.stop(0, self._stop_reason, cut_rest=not is_lost and not self._order.takes_over)

    async def _end(self, reason: str) -> None:
        """The final batch, the final status, and the lease given back."""
        self._ended = True
        if self._stop_reason == SUPERSEDED:
            reason = SUPERSEDED
        reason = reason.encode(errors="backslashreplace").decode()  # an app's own words may be no text for the wire
        end = _end_of(reason)
        if self._engine is not None:
            self._sealer.seal(self._engine, time.monotonic_ns(), end=end, reason=reason)
        elif reason != SUPERSEDED:
            self._sealer.seal_empty(end, reason)
        for _ in range(_WRITE_TRIES):
            if self._sealer.write():
                break
            await asyncio.sleep(_RETRY_PAUSE_S)
        else:
            reason = reason or self._sealer.error
        logger.info("shard %s ends: %s", self._order.shard_id, reason or "its schedule ran to the end")
        if reason == SUPERSEDED:
            # The newer attempt speaks for the shard from now on, and waits for this.
            with contextlib.suppress(RedisError):
                await self._fence.release()
            return
        state = _end_of(reason)
        try:
            async with asyncio.timeout(_LAST_WORDS_TIMEOUT_S):
                await self._status.say(state, reason)
                while self._status.is_unwritten:
                    await asyncio.sleep(_RETRY_PAUSE_S)
                    await self._status.write()
                await self._fence.release()
        except (TimeoutError, RedisError) as error:
            logger.warning("%s could not be told, or the lease not be given back; it expires: %r", state, error)

    def _obey(self, document: GroupDocument) -> None:
        self._document = document
        self._grace_s = document.stop_grace_s
        self._cut_batch(document)
        if self._begun:
            self._take_phase()
        if document.state == DesiredState.STOP:
            self._stop(STOPPED)
        elif document.state == DesiredState.RUN and document.start_broker_ns is not None and self._is_counted(document):
            self._run_wanted.set()

    def _is_counted(self, document: GroupDocument) -> bool:
        """Whether our clients take part; those of an interactive group do when all that come with them are ready."""
        first = min(first for first, _, _ in self._order.clients)
        return not any(begin <= first < end for begin, end in document.pending)

    def _cut_batch(self, document: GroupDocument) -> None:
        """Ends the batch where the next rows belong to another experiment, or to none, as an interactive one began or
        ended; or where the storing of rows begins or ends."""
        if self._ended:
            return
        sealer = self._sealer
        is_other = (document.experiment_id, document.tracing) != (sealer.experiment_id, sealer.traced)
        if is_other and self._engine is not None and self._begun:
            sealer.seal(self._engine, time.monotonic_ns())
        sealer.experiment_id, sealer.traced, sealer.version = document.experiment_id, document.tracing, document.version

    def _take_phase(self) -> None:
        # Interactive groups live for days, in which clocks part: the latest sample, not that of the start.
        document, clock = self._document, self._sealer.clock
        if document is None or document.phase is None or clock is None:
            return
        if document.phase == self._phase:
            if self._engine is not None:
                self._engine.keep_clients(_active(document))
            return
        self._phase = document.phase
        at_ns, now_ns = document.phase.start_broker_ns - clock.offset_ns, time.monotonic_ns()
        # A shard that learns of it too late to catch up begins now; so does one that would wait long, after the
        # broker's clock was set.
        self._begin_phase(document.phase, at_ns if -_AHEAD_NS < now_ns - at_ns < _CATCH_UP_NS else now_ns)

    def _begin_phase(self, phase: GroupCommand, at_ns: int) -> None:
        if self._engine is not None and self._document is not None and not self._stop_reason:
            self._engine.begin_command(phase, at_ns, _active(self._document))

    def _take_route(self, route: RoutingRecord | None) -> None:
        if self._routes is not None:
            self._routes.update(route)

    def _stop(self, reason: str) -> None:
        """Ends the load, in any phase. The first reason stands, but for a newer attempt; the shortest grace, too."""
        if not self._stop_reason or reason == SUPERSEDED:
            self._stop_reason = reason
            logger.info("shard %s stops: %s", self._order.shard_id, reason)
        if self._engine is not None and self._begun:
            # The rest of the plan is another attempt's, once there is one, or may be one.
            left = reason == SUPERSEDED or (self._is_replaceable and _end_of(reason) == ShardState.LOST)
            self._engine.stop(int(self._grace_s * 1e9), reason, cut_rest=not left)
        self._stopped.set()
        self._run_wanted.set()

    @property
    def _is_replaceable(self) -> bool:
        return self._document is not None and self._document.on_worker_loss == OnWorkerLoss.REPLACE

    async def _seal(self) -> None:
        while True:
            raise_if_cancelled()
            await asyncio.sleep(_SEAL_CHECK_S)
            if self._ended:
                return  # nothing comes after the final batch
            if self._engine is not None and self._sealer.seal_if_due(self._engine, time.monotonic_ns()):
                if self._sealer.error:
                    self._stop(self._sealer.error)
                elif self._sealer.is_spool_full():
                    self._stop(SPOOL_FULL)

    async def _tell_phases(self) -> None:
        """Says in the shard's status when a phase begins, and when one is done."""
        while self._engine is not None and not self._ended:
            raise_if_cancelled()
            await self._status.say_phases(*self._engine.commands)
            await asyncio.sleep(_SEAL_CHECK_S)

    async def _watch_group_lease(self) -> None:
        """The dead-man's switch: an unbounded load pauses when no controller has renewed it for a while."""
        while not self._ended:
            raise_if_cancelled()
            await asyncio.sleep(1)
            missing_ns = self._desired.missing_since_ns
            if missing_ns is not None and time.monotonic_ns() - missing_ns >= GROUP_LEASE_S * 1_000_000_000:
                # It was lost and its document removed: it can receive no more commands. (A document that Redis lost
                # comes back.)
                self._stop(FORGOTTEN)
            phase, alone_ns = self._phase, time.monotonic_ns() - self._desired.renewed_ns
            if phase is None or not phase.is_unbounded or self._status.status.is_deserted:
                continue
            if alone_ns >= GROUP_LEASE_S * 1_000_000_000:
                logger.warning(
                    "shard %s pauses: its group was not renewed for %d s", self._order.shard_id, GROUP_LEASE_S
                )
                self._begin_phase(GroupCommand(phase.number, phase.start_broker_ns), time.monotonic_ns())
                await self._status.say_deserted()

    async def _keep_lease(self) -> None:
        pause_s = LEASE_RENEW_S
        while True:
            raise_if_cancelled()
            await asyncio.sleep(pause_s)
            pause_s = LEASE_RENEW_S if await self._renew_lease() else _RENEW_AGAIN_S
            alone_ns = time.monotonic_ns() - self._desired.seen_ns
            if not self._run_wanted.is_set() and alone_ns >= HOLD_ALONE_S * 1e9:
                self._stop(OUT_OF_TOUCH)

    async def _renew_lease(self) -> bool:
        """Renews the lease, or stops the load when it is another attempt's; False when it is to be tried again."""
        begun_ns = time.monotonic_ns()
        is_ours: bool | None = None  # unknown
        try:
            is_ours = await self._fence.renew()
        except RedisError as error:
            if not self._away:
                logger.warning("the lease cannot be renewed: %s", error)
        self._away = is_ours is None
        if is_ours is False:
            self._grace_s = 0.0
            self._stop(SUPERSEDED)
        # Were it renewed after it had expired, another attempt might have been ordered in between.
        elif self._begun and self._is_replaceable and time.monotonic_ns() >= self._expires_ns:
            self._stop(LEASE_EXPIRED)
        elif is_ours:
            self._renewed_ns = begun_ns
            self._limit_sending()
        return is_ours is not None

    @property
    def _expires_ns(self) -> int:
        """When the lease has expired by our own clock; in Redis it expires no sooner."""
        return self._renewed_ns + LEASE_TTL_MS * 1_000_000

    def _limit_sending(self) -> None:
        if self._is_replaceable and self._engine is not None:
            self._engine.send_until(self._expires_ns, LEASE_EXPIRED)

    async def _keep_status(self) -> None:
        """Writes what could not be written, and what Redis may have lost; it must not hold up the lease's renewal."""
        written_ns = time.monotonic_ns()
        while True:
            raise_if_cancelled()
            await asyncio.sleep(LEASE_RENEW_S)
            if self._status.is_unwritten or time.monotonic_ns() - written_ns >= STATUS_EVERY_S * 1e9:
                await self._status.write()
                written_ns = time.monotonic_ns()

    async def _measure_start_clock(self) -> None:
        """Takes a sample for the start's mapping, unless the one at hand is known more exactly, its age considered."""
        sample = await measure_async(self._client, _CLOCK_ROUNDS)
        known = self._status.status.clock
        if known is not None and self._run_wanted.is_set():
            return  # the mapping has been made
        if known is None or sample.uncertainty_ns <= known.uncertainty_ns + _DRIFT_NS:
            self._sealer.clock = sample
            # Until the start is known, a plan that is cut counts its times from now.
            self._sealer.epoch_broker_ns = time.monotonic_ns() + sample.offset_ns
            self._status.take_clock(sample)

    async def _keep_clock(self) -> None:
        """Fresh samples: while holding they improve the start's mapping, while running they show drift."""
        while True:
            raise_if_cancelled()
            await asyncio.sleep(_CLOCK_EVERY_S)
            try:
                if self._run_wanted.is_set():
                    self._sealer.clock = await measure_async(self._client, _CLOCK_ROUNDS_LATER)
                else:
                    await self._measure_start_clock()
            except RedisError as error:
                logger.info("the clocks cannot be compared: %s", error)

    async def _patiently(self, step: Callable[[], Awaitable[None]]) -> None:
        """Takes a step that needs Redis, again and again while Redis is away."""
        while True:
            raise_if_cancelled()
            try:
                return await step()
            except RedisError as error:
                logger.warning("Redis is needed and away, trying again: %s", error)
                await asyncio.sleep(_RETRY_PAUSE_S)

    async def _unless_stopped(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        """The work's result; None, and the work cancelled, when a stop comes first."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stopped.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._check)
        self._tasks.append(task)

    def _check(self, task: asyncio.Task[None]) -> None:
        """A shard that has gone deaf by a programming error must not run on."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("internal error", exc_info=error)
            self._stop(f"internal error: {error!r}")
