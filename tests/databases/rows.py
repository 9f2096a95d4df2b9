"""One good row of every model of ours, made without a service: these tests are about the tables alone."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db import models

from experiments.models import (
    Batch,
    Capture,
    ClientApp,
    ClientAppVersion,
    ClientGroup,
    Event,
    Experiment,
    InteractiveGroup,
    NodeInfo,
    Recording,
    SecondStats,
    Shard,
    TelemetrySample,
    Trace,
    Worker,
    Workload,
)
from experiments.models.trace import trace_key
from loadgen.protocol.messages import WorkloadSpec
from routing.models import RoutingHost, RoutingRecord, RoutingRevision
from tests.support.partitions import make_partition

START = datetime(2026, 11, 22, 1, 2, 3, 456_789, tzinfo=UTC)
START_NS = 1_795_309_323_456_789_012
EXPERIMENT_ID = "202611220102-ab12"


def our_models() -> list[type[models.Model]]:
    """Every model of the project's own apps."""
    return [model for label in ("experiments", "routing") for model in apps.get_app_config(label).get_models()]


def make_experiment(experiment_id: str = EXPERIMENT_ID, **fields: Any) -> Experiment:
    values: dict[str, Any] = {
        "name": "test",
        "creator": "tester",
        "status": "RUNNING",
        "created_at": START,
        "started_at": START,
        "seed": 7,
    }
    make_partition(experiment_id)
    return Experiment.objects.create(id=experiment_id, **{**values, **fields})


def make_worker(name: str = "pi", **fields: Any) -> Worker:
    values: dict[str, Any] = {
        "instance": "pi-1",
        "slots": 4,
        "cores": 4,
        "memory_bytes": 8 << 30,
        "machine": "aarch64",
        "hostname": "pi",
        "started_at": START,
        "heartbeat_at": START,
        "clock_offset_ns": START_NS,
        "clock_uncertainty_ns": 50_000,
    }
    return Worker.objects.create(name=name, **{**values, **fields})


def make_shard(experiment: Experiment, worker: Worker, index: int = 0, group_id: str = "") -> Shard:
    """A shard with its workload and its group, each of this index."""
    spec = dataclasses.asdict(WorkloadSpec(index=index, service="web", schedule=[[1.0, 10.0]]))
    workload = Workload.objects.create(experiment=experiment, index=index, service="web", clients=3, spec=spec)
    group = ClientGroup.objects.create(
        id=group_id or f"{experiment.id}.{index}",
        experiment=experiment,
        workload=workload,
        state="run",
        total_clients=3,
        start_broker_ns=START_NS,
        created_at=START,
    )
    return Shard.objects.create(group=group, index=0, worker=worker, worker_instance="pi-1", clients=[[0, 3, 1]])


def trace(shard: Shard, row: int = 0, **fields: Any) -> Trace:
    """A trace that is not stored yet."""
    values: dict[str, Any] = {
        "id": trace_key(shard.id, row),
        "experiment_id": shard.group.experiment_id,
        "shard": shard,
        "client": 1,
        "sequence": row,
        "intended_ns": START_NS,
        "outcome": 0,
        "size": 100,
        "routing_version": 1,
    }
    return Trace(**{**values, **fields})


def second_stats(shard: Shard, second: int = 0, **fields: Any) -> SecondStats:
    """The statistics of a second, not stored yet."""
    values: dict[str, Any] = {
        "experiment_id": shard.group.experiment_id,
        "shard": shard,
        "workload": 0,
        "second": second,
        "arrivals": 3,
        "sent": 2,
        "completed": 1,
        "outcomes": {},
        "statuses": {},
        "hosts": {},
        "size": 100,
        "response_time": b"r",
        "service_time": b"s",
        "lateness": b"l",
        "connection_wait": b"c",
    }
    return SecondStats(**{**values, **fields})


def sample(experiment_id: str, **fields: Any) -> TelemetrySample:
    """A sample of telemetry that is not stored yet."""
    values: dict[str, Any] = {"node": "pi", "metric": "cpu", "subsystem": "", "timestamp_ns": START_NS, "value": 12.5}
    return TelemetrySample(experiment_id=experiment_id, **{**values, **fields})


def app_version(app: ClientApp, number: int = 1) -> ClientAppVersion:
    return ClientAppVersion.objects.create(
        app=app,
        number=number,
        digest="ab" * 32,
        manifest={"name": app.name},
        archive_bytes=100,
        unpacked_bytes=200,
        creator="tester",
        created_at=START,
    )


def fill(shard: Shard) -> list[models.Model]:
    """What belongs to a shard, and what its experiment recorded: one row each."""
    group = shard.group
    rows: list[models.Model] = [
        InteractiveGroup(group=group, seed=7, command_fields={"number": 1, "start_broker_ns": START_NS}),
        Batch(shard=shard, attempt=1, number=0, rows=1, received_at=START, counters={}, gauges={}),
        trace(shard),
        Capture(id=trace_key(shard.id, 0), experiment_id=group.experiment_id, request=b"q", response=b"r"),
        second_stats(shard),
        Event(experiment_id=group.experiment_id, timestamp=START, name="running", key=f"running:{shard.id}"),
        sample(group.experiment_id),
        NodeInfo(experiment_id=group.experiment_id, node="pi", info={}, worker={}),
        Recording(experiment_id=group.experiment_id, began_at=START),
    ]
    for row in rows:
        row.save(force_insert=True)
    return rows


def one_of_each() -> dict[type, Any]:
    """A stored row of every model, by model."""
    shard = make_shard(make_experiment(), make_worker())
    group = shard.group
    record = RoutingRecord.objects.create(service="web")
    app = ClientApp.objects.create(name="shop", created_at=START)
    rows: list[models.Model] = [
        shard,
        group,
        group.workload,
        group.experiment,
        shard.worker,
        *fill(shard),
        record,
        RoutingHost.objects.create(record=record, position=0, host="10.0.0.1:80", weight=1.5),
        RoutingRevision.objects.create(service="web", version=1, hosts=["10.0.0.1:80"], weights=[1.5]),
        app,
        app_version(app),
    ]
    by_model = {type(row): row for row in rows}
    missing = set(our_models()) - set(by_model)
    if missing:
        raise AssertionError(f"no row is made of {missing}: add one here")
    return by_model
