"""The time until 100 clients are ready, on a worker that has run a shard before."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import redis

from benchmarks.bench import Bench, Line, Measure
from benchmarks.figures import Figure, Sample, below
from benchmarks.stack import BenchStack, NotMeasured, plan
from loadgen.protocol.enums import ShardState
from loadgen.protocol.keys import shard_key

CLIENTS = 100
_LOOK_EVERY_S = 0.002


class _Watch:
    """Notes when a shard, which may not exist yet, is ready."""

    def __init__(self, broker: redis.Redis, shard_id: int) -> None:
        self._broker = broker
        self._key = shard_key(shard_id)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.ready_s: float | None = None  # since the epoch

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._broker.close()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            value = self._broker.get(self._key)
            if value and json.loads(value)["state"] == ShardState.READY:
                self.ready_s = time.time()
                return


@contextmanager
def _measuring(bench: Bench) -> Iterator[Measure]:
    with bench.target() as target, bench.stack() as stack:
        workload = plan([target.host], 1.0, ticks=[float(CLIENTS)], clients_per_host=CLIENTS)
        stack.load(workload, target)

        def measure() -> Sample:
            with _Watch(stack.broker(), _last_shard(stack) + 1) as watch:
                load = stack.load(workload, target)
            if watch.ready_s is None:
                raise NotMeasured("the shard was not ready at any check")
            dispatched_s, starting_s = _times(stack, load.experiment_id)
            return Sample(
                [(watch.ready_s - dispatched_s) * 1e3],
                {"from leaving the queue until ready, ms": (watch.ready_s - starting_s) * 1e3},
            )

        yield measure


def _last_shard(stack: BenchStack) -> int:
    return int(stack.query("SELECT MAX(id) FROM experiments_shard")[0][0])


def _times(stack: BenchStack, experiment_id: str) -> tuple[float, float]:
    """Returns when the shard was ordered and when its experiment left the queue, since the epoch."""
    sql = (
        "SELECT s.ordered_at, e.starting_at FROM experiments_shard s"
        " JOIN experiments_clientgroup g ON g.id = s.group_id"
        " JOIN experiments_experiment e ON e.id = g.experiment_id WHERE e.id = ?"
    )
    dispatched, starting = (
        datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in stack.query(sql, experiment_id)[0]
    )
    return dispatched, starting


LINE = Line(
    "spawn",
    (Figure("spawn of 100 clients, from the order until ready, warm worker", "ms", below(500), below(150)),),
    _measuring,
)
