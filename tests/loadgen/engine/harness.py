"""Runs engines for the tests: builds order and document, collects rows."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadgen.engine import Engine, SourceFactory, build_routes, file_sources
from loadgen.protocol.messages import Counters, GroupDocument, ShardOrder, WorkloadSpec
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import IDS_VERSION, request_id
from loadgen.protocol.trace_batch import NO_HOST
from routing.table import RoutingRecord
from tests.support import records

SERVICE = "service"
GROUP = "group"
_built: weakref.WeakSet[Engine] = weakref.WeakSet()


@dataclass(frozen=True)
class Row:
    client: int
    sequence: int
    intended_ns: int
    dispatched_ns: int
    sent_ns: int
    done_ns: int
    outcome: int
    status: int
    host: str | None
    size: int
    routing_version: int
    reason: int
    resent: int


@dataclass
class Result:
    """What a run left: rows in the order in which they were recorded."""

    rows: list[Row] = field(default_factory=list)
    reason: str = "not ended"
    counters: Counters = field(default_factory=Counters)
    connections: int = 0  # open at the end

    def outcomes(self) -> dict[Outcome, int]:
        counts: dict[Outcome, int] = {}
        for row in self.rows:
            counts[Outcome(row.outcome)] = counts.get(Outcome(row.outcome), 0) + 1
        return counts

    def ids(self, sent: bool = True, group_id: str = GROUP) -> list[str]:
        return [request_id(group_id, row.client, row.sequence) for row in self.rows if (row.sent_ns >= 0) == sent]


def unpack(taken: memoryview, hosts: list[str]) -> list[Row]:
    return [
        Row(**{**vars(record), "host": None if record.host == NO_HOST else hosts[record.host]})
        for record in records.unpack(taken)
    ]


def record(*hosts: str, weights: list[float] | None = None, version: int = 1) -> RoutingRecord:
    return RoutingRecord(SERVICE, list(hosts), weights or [1] * len(hosts), version)


def build(
    *hosts: str,
    rate: float = 100,
    duration: float = 0.2,
    clients: int = 2,
    total: int | None = None,
    group: str = GROUP,
    source: SourceFactory | None = None,
    apps_dir: Path | None = None,
    shard_index: int = 0,
    seed: int = 1,
    monotonic_ns: Callable[[], int] = time.monotonic_ns,
    max_connections: int = 1000,
    attempt: int = 1,
    **workload: Any,
) -> Engine:
    """An engine whose service has these hosts; keywords are those of the workload.

    Unless a test says otherwise, an arrival is sent however late a busy machine reaches it.
    """
    settings = {
        "schedule": [[duration, rate]],
        "index": 0,
        "service": SERVICE,
        "max_lateness_s": 60.0,
        "ids_version": IDS_VERSION,
        **workload,
    }
    spec = WorkloadSpec(**settings)
    document = GroupDocument(
        version=1,
        group_id=group,
        experiment_id=None,
        state="run",
        seed=seed,
        total_clients=total or clients,
        workload=spec,
    )
    order = ShardOrder(1, attempt, shard_index, group, None, [[0, clients, 1]], 2**62)
    routes = build_routes(spec, seed, shard_index)
    if hosts:
        routes.update(record(*hosts))
    engine = Engine(order, document, source or file_sources(apps_dir), routes, monotonic_ns, max_connections)
    _built.add(engine)
    return engine


async def close_all() -> None:
    """Closes the engines that a failed test has left open: uvloop would wait for their connections for ever."""
    for engine in list(_built):
        if engine.connections:
            await engine.close()


async def finish(engine: Engine) -> Result:
    """Waits for the end of a started engine, closes it, and checks what holds of every run."""
    end = await asyncio.wait_for(engine.wait(), 20)
    result = Result(unpack(*engine.take()), end.reason, engine.counters, engine.connections)
    await engine.close()
    assert engine.connections == 0
    assert engine.in_flight == 0
    assert not unpack(*engine.take())
    account_closes(result)
    return result


def account_closes(result: Result) -> None:
    counters = result.counters
    assert counters.rows == len(result.rows) == counters.planned
    assert counters.sent == counters.completed + counters.errors == len(result.ids())
    assert counters.planned == (
        counters.sent + counters.dropped + counters.late + counters.connect_failed + counters.cut
    )
    arrivals = {(row.client, row.sequence) for row in result.rows}
    assert len(arrivals) == len(result.rows)
    for row in result.rows:
        assert (row.done_ns >= 0) == (row.outcome == Outcome.COMPLETED)
        assert (row.sent_ns >= 0) == (row.outcome < 16)
        if row.sent_ns >= 0:
            assert row.intended_ns <= row.dispatched_ns <= row.sent_ns
        if row.done_ns >= 0:
            assert row.sent_ns <= row.done_ns


async def play(engine: Engine, during: Callable[[Engine], Coroutine[Any, Any, None]] | None = None) -> Result:
    """Prepares and starts an engine now, does something meanwhile, and returns its result."""
    await engine.prepare()
    engine.start(time.monotonic_ns())
    if during is not None:
        await during(engine)
    return await finish(engine)
