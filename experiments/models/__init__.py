"""What is stored: experiments and their parts, workers, traces and the statistics over them, telemetry, events,
client apps."""

from experiments.models.app import ClientApp, ClientAppVersion
from experiments.models.event import Event
from experiments.models.experiment import Experiment, Workload
from experiments.models.group import Client, ClientGroup, Shard
from experiments.models.telemetry import NodeInfo, Recording, TelemetrySample
from experiments.models.trace import Batch, Capture, SecondStats, Trace
from experiments.models.worker import Worker

__all__ = [
    "Batch",
    "Capture",
    "Client",
    "ClientApp",
    "ClientAppVersion",
    "ClientGroup",
    "Event",
    "Experiment",
    "NodeInfo",
    "Recording",
    "SecondStats",
    "Shard",
    "TelemetrySample",
    "Trace",
    "Worker",
    "Workload",
]
