"""What is stored: experiments and their parts, workers, traces and the statistics over them, events,
client apps."""

from experiments.models.app import ClientApp, ClientAppVersion
from experiments.models.event import Event
from experiments.models.experiment import Experiment, Workload
from experiments.models.group import Client, ClientGroup, Shard
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
    "SecondStats",
    "Shard",
    "Trace",
    "Worker",
    "Workload",
]
