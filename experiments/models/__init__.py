"""The database models of experiments."""

from experiments.models.app import ClientApp, ClientAppVersion
from experiments.models.experiment import ACTIVE_STATUSES, ENDED_STATUSES, Event, Experiment, ExperimentStatus, Workload
from experiments.models.group import (
    ENDED_SHARD_STATUSES,
    REPORTED_ENDS,
    ClientGroup,
    GroupState,
    InteractiveGroup,
    OnWorkerLoss,
    Shard,
    ShardStatus,
)
from experiments.models.telemetry import NodeInfo, Recording, TelemetrySample
from experiments.models.trace import Batch, Capture, SecondStats, Trace
from experiments.models.worker import LIVE_WORKER_STATUSES, Worker, WorkerStatus

__all__ = [
    "ACTIVE_STATUSES", "ENDED_SHARD_STATUSES", "ENDED_STATUSES", "LIVE_WORKER_STATUSES", "REPORTED_ENDS", "Batch",
    "Capture", "ClientApp", "ClientAppVersion", "ClientGroup", "Event", "Experiment", "ExperimentStatus", "GroupState",
    "InteractiveGroup", "NodeInfo", "OnWorkerLoss", "Recording", "SecondStats", "Shard", "ShardStatus",
    "TelemetrySample", "Trace", "Worker", "WorkerStatus", "Workload",
]  # fmt: skip
