"""A validated plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from experiments.plans import intervals
from experiments.plans.arrivals import DEFAULT_ARRIVALS, Distribution, in_plan
from experiments.plans.events import TimedEvent
from loadgen.arrivals.pacer import PRERECORDED
from loadgen.protocol.messages import CLOSED, CONTINUE, WorkloadSpec
from routing.table import RoutingRecord

NS = 1_000_000_000
# In a plan: as many shards as the load needs; no request id on the wire.
AUTO, OFF = "auto", "off"
# How a workload's shards are placed. balanced: dealt out over the live workers, least loaded first. queue: so many wait
# in the queue of a label, from which whichever worker with that label is free takes one.
BALANCED, QUEUE = "balanced", "queue"
PLACEMENTS = (BALANCED, QUEUE)
DEFAULTS = WorkloadSpec(index=0, service="", schedule=[])
DEFAULT_THINK_TIME: Distribution = (DEFAULTS.think_time, DEFAULTS.think_time_parameters)


@dataclass(frozen=True)
class WorkloadPlan:
    """What one service gets.

    Open model: `ticks[i]` is the service's total rate in interval i, in requests per second; for prerecorded arrivals
    it is what they amount to. `clients` is the plan's `clients_per_host`. Closed model: `clients_by_interval[i]` of the
    clients are active in interval i; `clients` is the greatest of these numbers. `worker_labels` are without the prefix
    `galileo_` and hold the plan's defaults already. Placement `balanced` has `shards_per_worker`, None: as many as the
    load needs; `queue` has `shards`, and one label. `router` and `static_host` "": the worker's.
    """

    service: str
    ticks: list[float]
    clients: int = 3
    model: str = DEFAULTS.model
    clients_by_interval: list[int] = field(default_factory=list)
    think_time: Distribution = DEFAULT_THINK_TIME
    requests_per_client: int | None = DEFAULTS.requests_per_client
    arrival_pattern: Distribution = DEFAULT_ARRIVALS
    client: str | None = None
    client_parameters: dict[str, Any] = field(default_factory=dict)
    worker_labels: dict[str, str] = field(default_factory=dict)
    placement: str = BALANCED
    shards_per_worker: int | None = None
    shards: int | None = None
    router: str = DEFAULTS.router
    static_host: str = DEFAULTS.static_host
    balancer: str = DEFAULTS.balancer
    scheme: str = DEFAULTS.scheme
    connection: str = DEFAULTS.connection
    max_connections_per_host: int | None = DEFAULTS.max_connections_per_host
    method: str = DEFAULTS.method
    path: str = DEFAULTS.path
    kwargs: dict[str, Any] = field(default_factory=dict)
    request_timeout_s: float = DEFAULTS.request_timeout_s
    connect_timeout_s: float = DEFAULTS.connect_timeout_s
    max_in_flight: int = DEFAULTS.max_in_flight
    max_lateness_s: float = DEFAULTS.max_lateness_s
    request_id_header: str = DEFAULTS.request_id_header
    capture: str = DEFAULTS.capture
    capture_bytes: int = DEFAULTS.capture_bytes

    @property
    def steps(self) -> list[float]:
        """What each interval asks for: requests per second, or clients."""
        return list(self.clients_by_interval) if self.model == CLOSED else self.ticks

    def to_dict(self) -> dict[str, Any]:
        request = {} if self.client else {"method": self.method, "path": self.path, "kwargs": self.kwargs}
        app = {"client": self.client, "client_parameters": self.client_parameters} if self.client else {}
        return {
            "service": self.service,
            **self._load_to_dict(),
            **app,
            **request,
            "worker_labels": self.worker_labels,
            **self._placing_to_dict(),
            "router": self.router or None,
            "static_host": self.static_host or None,
            "balancer": self.balancer,
            "scheme": self.scheme,
            "connection": self.connection,
            "max_connections_per_host": self.max_connections_per_host,
            "request_timeout": self.request_timeout_s,
            "connect_timeout": self.connect_timeout_s,
            "request_id_header": self.request_id_header or OFF,
            "capture": self.capture,
            "capture_bytes": self.capture_bytes,
        }

    def _placing_to_dict(self) -> dict[str, Any]:
        if self.placement == QUEUE:
            return {"placement": self.placement, "shards": self.shards}
        per_worker = AUTO if self.shards_per_worker is None else self.shards_per_worker
        return {"placement": self.placement, "shards_per_worker": per_worker}

    def _load_to_dict(self) -> dict[str, Any]:
        if self.model == CLOSED:
            return {
                "model": self.model,
                "clients": self.clients_by_interval,
                "think_time": in_plan(self.think_time),
                "requests_per_client": self.requests_per_client,
            }
        ticks = {} if self.arrival_pattern[0] == PRERECORDED else {"ticks": self.ticks}
        return {
            "model": self.model,
            **ticks,
            "clients_per_host": self.clients,
            "arrival_pattern": in_plan(self.arrival_pattern),
            "max_in_flight": self.max_in_flight,
            "max_lateness": self.max_lateness_s,
        }


@dataclass(frozen=True)
class Plan:
    """One experiment as its user wants it. `creator` None: whoever submits it; `seed` and `experiment_id` None: one is
    drawn.

    `intervals_ns` says how long each interval lasts; together they are the duration. Without `tracing` no row is
    stored, but statistics alone.
    """

    name: str
    creator: str | None
    intervals_ns: list[int]
    workloads: list[WorkloadPlan]
    on_worker_loss: str = CONTINUE
    tracing: bool = True
    events: list[TimedEvent] = field(default_factory=list)
    routing: list[RoutingRecord] = field(default_factory=list)
    seed: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    experiment_id: str | None = None  # of this one run: it is no part of the plan that is stored

    @property
    def duration_ns(self) -> int:
        return sum(self.intervals_ns)

    @property
    def duration_s(self) -> float:
        return self.duration_ns / NS

    def workload_specs(self) -> list[WorkloadSpec]:
        """What crosses the wire, one per workload, in the plan's order."""
        durations_s = [interval_ns / NS for interval_ns in self.intervals_ns]
        return [
            _spec(workload, index, [list(step) for step in zip(durations_s, workload.steps, strict=True)])
            for index, workload in enumerate(self.workloads)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The plan as normalised JSON; `parse` makes the same plan of it."""
        return {
            "experiment": {"name": self.name} | ({"creator": self.creator} if self.creator else {}),
            "configuration": {
                "duration": self.duration_s,
                "interval": intervals.in_plan(self.intervals_ns),
                "workloads": [workload.to_dict() for workload in self.workloads],
                "on_worker_loss": self.on_worker_loss,
                "tracing": self.tracing,
            },
            **({"events": [event.to_dict() for event in self.events]} if self.events else {}),
            "routing": {
                record.service: {"hosts": list(record.hosts), "weights": list(record.weights)}
                for record in self.routing
            },
            **({} if self.seed is None else {"seed": self.seed}),
            "metadata": self.metadata,
        }


def interactive_spec(workload: WorkloadPlan) -> WorkloadSpec:
    """What crosses the wire of an interactive group's workload, without the index that it will have."""
    return _spec(workload, 0, [])


def _spec(workload: WorkloadPlan, index: int, schedule: list[list[float]]) -> WorkloadSpec:
    return WorkloadSpec(
        index=index,
        service=workload.service,
        schedule=schedule,
        model=workload.model,
        think_time=workload.think_time[0],
        think_time_parameters=workload.think_time[1],
        requests_per_client=workload.requests_per_client,
        arrival_process=workload.arrival_pattern[0],
        arrival_parameters=workload.arrival_pattern[1],
        client_app=workload.client,
        client_parameters=workload.client_parameters,
        method=workload.method,
        path=workload.path,
        kwargs=workload.kwargs,
        router=workload.router,
        static_host=workload.static_host,
        balancer=workload.balancer,
        scheme=workload.scheme,
        connection=workload.connection,
        max_connections_per_host=workload.max_connections_per_host,
        request_timeout_s=workload.request_timeout_s,
        connect_timeout_s=workload.connect_timeout_s,
        max_in_flight=workload.max_in_flight,
        max_lateness_s=workload.max_lateness_s,
        request_id_header=workload.request_id_header,
        capture=workload.capture,
        capture_bytes=workload.capture_bytes,
    )
