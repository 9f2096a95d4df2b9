"""A validated plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from loadgen.messages import CONTINUE, WorkloadSpec
from loadgen.pacer import CONSTANT
from routing.table import RoutingRecord

NS = 1_000_000_000
DEFAULTS = WorkloadSpec(index=0, service="", schedule=[])


@dataclass(frozen=True)
class WorkloadPlan:
    """What one service gets. `ticks[i]` is the service's total rate in interval i, in requests per second.

    `worker_labels` are without the prefix `galileo_` and hold the plan's defaults already; `clients` is the plan's
    `clients_per_host`.
    """

    service: str
    ticks: list[float]
    clients: int = 3
    arrival_pattern: str = CONSTANT
    client: str | None = None
    client_parameters: dict[str, Any] = field(default_factory=dict)
    worker_labels: dict[str, str] = field(default_factory=dict)
    router: str = DEFAULTS.router
    method: str = DEFAULTS.method
    path: str = DEFAULTS.path
    kwargs: dict[str, Any] = field(default_factory=dict)
    request_timeout_s: float = DEFAULTS.request_timeout_s
    connect_timeout_s: float = DEFAULTS.connect_timeout_s
    max_in_flight: int = DEFAULTS.max_in_flight
    max_lateness_s: float = DEFAULTS.max_lateness_s
    request_id_header: str = DEFAULTS.request_id_header

    def to_dict(self) -> dict[str, Any]:
        request = {} if self.client else {"method": self.method, "path": self.path, "kwargs": self.kwargs}
        app = {"client": self.client, "client_parameters": self.client_parameters} if self.client else {}
        return {
            "service": self.service,
            "ticks": self.ticks,
            "clients_per_host": self.clients,
            "arrival_pattern": self.arrival_pattern,
            **app,
            **request,
            "worker_labels": self.worker_labels,
            "router": self.router,
            "request_timeout": self.request_timeout_s,
            "connect_timeout": self.connect_timeout_s,
            "max_in_flight": self.max_in_flight,
            "max_lateness": self.max_lateness_s,
            "request_id_header": self.request_id_header,
        }


@dataclass(frozen=True)
class Plan:
    """One experiment as its user wants it. `creator` None: whoever submits it; `seed` None: one is drawn."""

    name: str
    creator: str | None
    duration_ns: int
    interval_ns: int
    workloads: list[WorkloadPlan]
    on_worker_loss: str = CONTINUE
    routing: list[RoutingRecord] = field(default_factory=list)
    seed: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        return self.duration_ns / NS

    @property
    def interval_s(self) -> float:
        return self.interval_ns / NS

    def interval_durations_s(self) -> list[float]:
        """Durations of the intervals; the last one may be shorter than the rest."""
        whole, rest_ns = divmod(self.duration_ns, self.interval_ns)
        return [self.interval_s] * whole + ([rest_ns / NS] if rest_ns else [])

    def workload_specs(self) -> list[WorkloadSpec]:
        """What crosses the wire, one per workload, in the plan's order."""
        durations_s = self.interval_durations_s()
        return [
            WorkloadSpec(
                index=index,
                service=workload.service,
                schedule=[list(step) for step in zip(durations_s, workload.ticks, strict=True)],
                arrival_process=workload.arrival_pattern,
                client_app=workload.client,
                client_parameters=workload.client_parameters,
                method=workload.method,
                path=workload.path,
                kwargs=workload.kwargs,
                router=workload.router,
                request_timeout_s=workload.request_timeout_s,
                connect_timeout_s=workload.connect_timeout_s,
                max_in_flight=workload.max_in_flight,
                max_lateness_s=workload.max_lateness_s,
                request_id_header=workload.request_id_header,
            )
            for index, workload in enumerate(self.workloads)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The plan as normalised JSON; `parse` makes the same plan of it."""
        return {
            "experiment": {"name": self.name} | ({"creator": self.creator} if self.creator else {}),
            "configuration": {
                "duration": self.duration_s,
                "interval": self.interval_s,
                "workloads": [workload.to_dict() for workload in self.workloads],
                "on_worker_loss": self.on_worker_loss,
            },
            "routing": {
                record.service: {"hosts": list(record.hosts), "weights": list(record.weights)}
                for record in self.routing
            },
            **({} if self.seed is None else {"seed": self.seed}),
            "metadata": self.metadata,
        }
