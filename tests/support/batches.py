"""Makes experiments, and the trace batches that their shards would send."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from experiments.analysis.shard_scope import pacer_of
from experiments.models import ClientGroup, Experiment, Shard, Worker, Workload
from loadgen.protocol.messages import BatchHeader, Counters, Gauges, WorkloadSpec
from loadgen.protocol.outcomes import Outcome, account_line
from loadgen.protocol.request_ids import IDS_VERSION
from loadgen.protocol.trace_batch import COLUMNS, ROW_BYTES, encode_header, to_message
from tests.support.partitions import make_partition
from tests.support.records import Row, pack

NS = 1_000_000_000
START_S = 1_700_000_000
START_NS = START_S * NS
START = datetime.fromtimestamp(START_S, UTC)
EPOCH_NS = START_NS  # what the rows' times are relative to

_numbers = itertools.count()


def make_worker(name: str = "pi1", **fields: Any) -> Worker:
    defaults: dict[str, Any] = {
        "instance": "i1",
        "slots": 4,
        "cores": 2,
        "memory_bytes": 1 << 30,
        "machine": "aarch64",
        "hostname": name,
        "started_at": START,
        "heartbeat_at": START,
        "clock_offset_ns": 0,
        "clock_uncertainty_ns": 50_000,
    }
    return Worker.objects.get_or_create(name=name, defaults={**defaults, **fields})[0]


def make_experiment(
    *schedules: list[list[float]],
    shards: int = 1,
    workers: tuple[str, ...] = ("pi1",),
    clients: int = 4,
    status: str = "RUNNING",
    process: str = "constant",
    interval_s: float | list[float] = 1.0,
    experiment_id: str = "",
    first_shard_id: int | None = None,
    **spec: Any,
) -> Experiment:
    """An experiment with one workload per schedule (default: 2 s of 10 requests/s), placed on `workers` in turn."""
    schedules = schedules or ([[1.0, 10.0], [1.0, 10.0]],)
    ended = status in ("FINISHED", "FAILED", "CANCELLED")
    experiment_id = experiment_id or f"202611220101-{next(_numbers):04d}"
    make_partition(experiment_id)
    experiment = Experiment.objects.create(
        id=experiment_id,
        name="test",
        creator="tester",
        status=status,
        final_status=status if ended else ("FINISHED" if status == "FINALIZING" else ""),
        created_at=START,
        starting_at=START,
        started_at=START,
        start_broker_ns=START_NS,
        seed=7,
        plan={
            "experiment": {"name": "test"},
            "configuration": {
                "interval": interval_s,
                "duration": max(sum(step[0] for step in steps) for steps in schedules),
            },
        },
    )
    for index, schedule in enumerate(schedules):
        workload_spec = WorkloadSpec(
            index=index,
            service=f"service{index}",
            schedule=schedule,
            arrival_process=process,
            **{"ids_version": IDS_VERSION, **spec},
        )
        workload = Workload.objects.create(
            experiment=experiment,
            index=index,
            service=workload_spec.service,
            clients=clients,
            spec=dataclasses.asdict(workload_spec),
        )
        group = ClientGroup.objects.create(
            id=f"{experiment.id}.{index}",
            experiment=experiment,
            workload=workload,
            state="run",
            total_clients=clients,
            start_broker_ns=START_NS,
            created_at=START,
        )
        for position in range(shards):
            Shard.objects.create(
                id=None if first_shard_id is None else first_shard_id + index * shards + position,
                group=group,
                index=position,
                worker=make_worker(workers[position % len(workers)]),
                worker_instance="i1",
                status="FINISHED" if ended or status == "FINALIZING" else "RUNNING",
                clients=[[position, clients, shards]],
                clock_offset_ns=0,
                clock_uncertainty_ns=50_000,
                descriptor_limit=65_536,
            )
    return experiment


def shards_of(experiment: Experiment) -> list[Shard]:
    return list(
        Shard.objects.filter(group__experiment=experiment)
        .select_related("group__workload", "group__experiment", "worker")
        .order_by("group", "index")
    )


def row(client: int, sequence: int, intended_ns: int, outcome: int = Outcome.COMPLETED, **fields: Any) -> Row:
    """A row as the engine would write it: 50 µs late, 100 µs for a connection, 5 ms of service."""
    result = Row(client, sequence, intended_ns, outcome=outcome)
    if outcome != Outcome.CUT:
        result = replace(result, dispatched_ns=intended_ns + 50_000, host=0, routing_version=1)
    if outcome < 16:
        result = replace(result, sent_ns=intended_ns + 150_000)
    if outcome == Outcome.COMPLETED:
        result = replace(result, done_ns=intended_ns + 5_150_000, status=200, size=100)
    return replace(result, **fields)


def rows_of(shard: Shard, change: Callable[[int, Row], Row] = lambda number, row: row) -> list[Row]:
    """Every arrival that the plan has for a shard, as a row; `change` may turn number n into something else."""
    arrivals = enumerate(pacer_of(shard))
    return [change(number, row(client, sequence, intended)) for number, (intended, client, sequence) in arrivals]


def payload(shard: Shard, rows: Iterable[Row] = (), *, number: int = 0, first_row: int = 0, **fields: Any) -> bytes:
    """A batch as it crosses the wire."""
    return to_message(raw(shard, rows, number=number, first_row=first_row, **fields))


def raw(shard: Shard, rows: Iterable[Row] = (), **fields: Any) -> bytes:
    """A batch as it lies in a spool."""
    records = b"".join(map(pack, rows))
    return encode_header(replace(header(shard, len(records) // ROW_BYTES), **fields)) + records


def header(shard: Shard, rows: int = 0) -> BatchHeader:
    return BatchHeader(
        shard_id=shard.id,
        attempt=shard.attempt,
        group_id=shard.group_id,
        experiment_id=shard.group.experiment_id,
        worker=shard.worker.name,
        number=0,
        first_row=0,
        rows=rows,
        epoch_broker_ns=EPOCH_NS,
        hosts=["10.0.0.1:80", "10.0.0.2:80"],
        columns=COLUMNS,
        counters=Counters(),
        gauges=Gauges(),
    )


def counters_of(rows: list[Row]) -> Counters:
    lines = [account_line(row.outcome) for row in rows]
    counts = {name: lines.count(name) for name in set(lines)}
    return Counters(
        planned=len(rows), rows=len(rows), sent=counts.get("completed", 0) + counts.get("errors", 0), **counts
    )


def run_payloads(
    shard: Shard, rows: list[Row] | None = None, *, batches: int = 3, gauges: Gauges | None = None, reason: str = ""
) -> list[bytes]:
    """All batches of a shard's run, the last with its totals; `rows` default to the plan's, all completed."""
    rows = rows_of(shard) if rows is None else rows
    size = max(1, -(-len(rows) // batches))
    result = []
    for number in range(batches):
        first, last = number * size, number == batches - 1
        part = rows[first:] if last else rows[first : first + size]
        result.append(
            payload(
                shard,
                part,
                number=number,
                first_row=min(first, len(rows)),
                end="finished" if last else "",
                reason=reason if last else "",
                counters=counters_of(rows if last else rows[: first + size]),
                gauges=gauges or Gauges(wall_ns=(number + 1) * NS, cpu_ns=(number + 1) * NS // 10),
            )
        )
    return result
