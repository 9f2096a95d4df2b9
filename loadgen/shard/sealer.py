"""Sealer: seals the rows that the engine has recorded as trace batches in the spool."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from loadgen.device.cores import CoreWatch
from loadgen.device.process import run_queue_wait_ns
from loadgen.device.running_shards import siblings
from loadgen.device.spool import BatchName, Spool
from loadgen.engine.end import End
from loadgen.engine.stalls import AppTime, Stall, StallWatch
from loadgen.protocol.messages import BatchHeader, ClockSample, Counters, Gauges, ShardOrder, WorkloadSpec
from loadgen.protocol.request_ids import IDS_VERSION
from loadgen.protocol.trace_batch import COLUMNS, ROW_BYTES, Capture, encode_captures, encode_header, split_endpoint

logger = logging.getLogger(__name__)

SEAL_WITH_ROWS_NS = 250_000_000
SEAL_WITHOUT_ROWS_NS = 1_000_000_000
CORE_EVERY_NS = 1_000_000_000
SIBLINGS_EVERY_NS = 30_000_000_000  # reading a spool of thousands of files takes a while
MAX_ROWS = (512 << 10) // ROW_BYTES
# Rows are looked at every 50 ms: at up to 90,000 a second they are sealed before they are too many for one batch.
SEAL_AT_ROWS = MAX_ROWS // 2
# Row numbers of an attempt begin at (attempt - 1) << ATTEMPT_ROW_BITS, so that those of two attempts never collide.
ATTEMPT_ROW_BITS = 28


class EngineState(Protocol):
    """The engine's state between two batches."""

    @property
    def in_flight(self) -> int: ...

    @property
    def connections(self) -> int: ...

    @property
    def stall(self) -> Stall: ...

    @property
    def app_time(self) -> AppTime: ...

    @property
    def pool_waits(self) -> int: ...


class RecordingEngine(Protocol):
    """The part of the engine that the sealer uses."""

    stalls: StallWatch

    @property
    def counters(self) -> Counters: ...

    def take(self) -> tuple[memoryview, list[str]]: ...

    def take_captures(self) -> list[Capture]: ...

    def take_gauges(self) -> EngineState: ...


class ProcessAccount:
    """CPU, waiting and wall time of this process, and its neighbours' use of its core, since `begin`; 0 before that.

    Args:
        siblings: finds the pids of the experiment's other shards, which do not count as neighbours.
    """

    def __init__(self, siblings: Callable[[], Collection[int]]) -> None:
        self._find_siblings = siblings
        self._siblings: Collection[int] = ()
        self._siblings_read_ns = 0
        self._cpu_ns = self._wait_ns = self._wall_ns = self._core_read_ns = 0
        self._core: CoreWatch | None = None

    def look_around(self) -> None:
        """Finds the siblings, which takes a while; all of them run when the start is known."""
        self._siblings = self._find_siblings()
        self._siblings_read_ns = time.monotonic_ns()

    def begin(self) -> None:
        self._cpu_ns, self._wait_ns, self._wall_ns = time.process_time_ns(), run_queue_wait_ns(), time.monotonic_ns()
        self._core = CoreWatch(self._cpu_ns, self._siblings)
        self._core_read_ns = self._wall_ns

    def gauges(self) -> dict[str, int]:
        """`cpu_ns`, `wait_ns`, `wall_ns`, `others_ns` and `stolen_ns` of Gauges; the last two are brought up to date
        once a second."""
        if self._core is None:
            return {}
        cpu_ns, now_ns = time.process_time_ns(), time.monotonic_ns()
        if now_ns - self._core_read_ns >= CORE_EVERY_NS:
            self._core_read_ns = now_ns
            if now_ns - self._siblings_read_ns >= SIBLINGS_EVERY_NS:
                self.look_around()
            self._core.look(cpu_ns, self._siblings)
        return {
            "cpu_ns": cpu_ns - self._cpu_ns,
            "wait_ns": run_queue_wait_ns() - self._wait_ns,
            "wall_ns": now_ns - self._wall_ns,
            "others_ns": self._core.others_ns,
            "stolen_ns": self._core.stolen_ns,
        }


class Sealer:
    """Cuts the engine's rows into numbered batches and puts them into the spool.

    A batch that the file system refuses waits in memory and is tried again with the next one. `error` is then a
    sentence for the load's end, as memory is small and a full spool stops the load.

    The load's times count from `epoch_broker_ns`. Batches are sealed for `experiment_id` under the `version` of the
    group's document; `traced` is whether their rows are to be stored, and with them captures. `account` is to be begun
    when the load starts.
    """

    def __init__(self, order: ShardOrder, worker: str, spool: Spool) -> None:
        self._order = order
        self._worker = worker
        self._spool = spool
        self._number = 0
        self._first_row = (order.attempt - 1) << ATTEMPT_ROW_BITS
        self._rows_taken = 0
        self._unwritten: deque[tuple[BatchName, list[bytes | memoryview]]] = deque()
        self.account = ProcessAccount(lambda: siblings(spool.directory, order))
        self._sealed_ns = time.monotonic_ns()
        self.epoch_broker_ns = 0
        self.experiment_id = order.experiment_id
        self.version = 0
        self.traced = True
        self.clock: ClockSample | None = None
        self.workload: WorkloadSpec | None = None
        self.error = ""

    def seal_if_due(self, engine: RecordingEngine, now_ns: int) -> bool:
        """Seals if rows are old or many enough, or nothing was sealed for a second; returns whether it did."""
        rows = engine.counters.rows - self._rows_taken
        age_ns = now_ns - self._sealed_ns
        if rows >= SEAL_AT_ROWS or age_ns >= (SEAL_WITH_ROWS_NS if rows else SEAL_WITHOUT_ROWS_NS):
            self.seal(engine, now_ns)
            return True
        return False

    def seal(self, engine: RecordingEngine, now_ns: int, *, end: End | None = None) -> None:
        """Seals all rows recorded so far; with an `end`, as the attempt's last batch."""
        began_ns = time.monotonic_ns()
        counters = engine.counters
        captures = engine.take_captures()
        if not self.traced:
            captures = []
        records, endpoints = engine.take()
        state = engine.take_gauges()
        self._rows_taken += len(records) // ROW_BYTES
        self._sealed_ns = now_ns
        gauges = Gauges(
            in_flight=state.in_flight,
            connections=state.connections,
            **self.account.gauges(),
            max_stall_ns=state.stall.length_ns,
            stall_waited_ns=state.stall.waited_ns,
            stall_app_ns=state.stall.app_ns,
            stall_collecting_ns=state.stall.collecting_ns,
            stall_sealing_ns=state.stall.sealing_ns,
            stall_own_ns=state.stall.own_ns,
            app_ns=state.app_time.total_ns,
            slow_app_ns=state.app_time.slow_ns,
            longest_app_ns=state.app_time.longest_ns,
            pool_waits=state.pool_waits,
            clock_offset_ns=self.clock.offset_ns if self.clock else 0,
            clock_uncertainty_ns=self.clock.uncertainty_ns if self.clock else 0,
            spool_bytes=self._spool.size_bytes(),
        )
        parts = split(records, MAX_ROWS)
        for index, part in enumerate(parts):
            first = index * MAX_ROWS
            own = [
                capture._replace(row=capture.row - first) for capture in captures if capture.row // MAX_ROWS == index
            ]
            last = index == len(parts) - 1
            self._add(part, endpoints, counters, gauges, own, end if last else None)
        self.write()
        engine.stalls.sealing_ns += time.monotonic_ns() - began_ns

    def seal_empty(self, end: End) -> None:
        """Seals the final batch of a shard that has no engine yet."""
        self._add(memoryview(b""), [], Counters(), Gauges(), [], end)
        self.write()

    def write(self) -> bool:
        """Writes the batches that wait in memory; returns whether all are in the spool now."""
        while self._unwritten:
            name, parts = self._unwritten[0]
            try:
                self._spool.write(name, *parts)
            except OSError as error:
                if not self.error:
                    logger.error("batch %s cannot be written: %s", name.id, error)
                self.error = f"spool: a batch cannot be written: {error.strerror}"
                return False
            self._unwritten.popleft()
        return True

    def is_spool_full(self) -> bool:
        return self._spool.is_full()

    def _add(
        self,
        records: memoryview,
        endpoints: list[str],
        counters: Counters,
        gauges: Gauges,
        captures: list[Capture],
        end: End | None,
    ) -> None:
        order = self._order
        captured = encode_captures(captures)
        rows = len(records) // ROW_BYTES
        hosts, addresses = zip(*map(split_endpoint, endpoints), strict=True) if endpoints else ((), ())
        header = BatchHeader(
            shard_id=order.shard_id,
            attempt=order.attempt,
            group_id=order.group_id,
            experiment_id=self.experiment_id,
            worker=self._worker,
            number=self._number,
            version=self.version,
            traced=self.traced,
            first_row=self._first_row,
            rows=rows,
            epoch_broker_ns=self.epoch_broker_ns,
            hosts=list(hosts),
            addresses=list(addresses) if any(addresses) else [],
            counters=counters,
            gauges=gauges,
            service=self.workload.service if self.workload else "",
            request_id_header=self.workload.request_id_header if self.workload else "",
            ids_version=self.workload.ids_version if self.workload else IDS_VERSION,
            captures_bytes=len(captured),
            columns=COLUMNS,
            end=end.state if end else "",
            reason=end.reason if end else "",
        )
        name = BatchName(order.group_id, order.shard_id, order.attempt, self._number)
        self._unwritten.append((name, [encode_header(header), records, captured]))
        self._number += 1
        self._first_row += rows


def split(records: memoryview, max_rows: int) -> list[memoryview]:
    """Records of at most `max_rows` rows each; one of no rows for none. (A stop records the rest of a plan at once.)"""
    step = max_rows * ROW_BYTES
    return [records[begin : begin + step] for begin in range(0, len(records), step)] or [records]
