"""BenchStack: a whole Galileo, with its worker on the generator's core, and the rest on the target's core."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cores import Cores
from benchmarks.target import Target
from galileo_site.stack.processes import Child
from tests.support.galileo import CONTROLLER, Galileo

WORKER = "bench"
SERVICE = "bench"
MB = 1e6
_NS = 1e9
_SAMPLE_EVERY_S = 0.25


class NotMeasured(Exception):
    """A run whose figures are not valid; the message is the reason."""


@dataclass(frozen=True)
class Load:
    """The figures of an ended load, from the database; checked against the target's own count."""

    experiment_id: str
    duration_s: float
    summary: dict[str, Any]
    last_row_after_s: float  # from the load's planned end until its last row was in the database

    @property
    def completed_rps(self) -> float:
        return float(self.summary["account"]["completed"] / self.duration_s)

    @property
    def lateness_s(self) -> dict[str, Any]:
        """p50_s, p99_s and so on."""
        return dict(self.summary["total"]["times"]["lateness"])

    @property
    def shard_cpu_share(self) -> float:
        """Of a core, over the whole load."""
        (shard,) = self.summary["shards"]
        return float(shard["cpu_share"])

    @property
    def cpu_us_per_request(self) -> float:
        """CPU time of the shard's process."""
        return self.shard_cpu_share / self.completed_rps * 1e6

    def deviations(self) -> str:
        """Returns the deviations from the plan; '' if everything was sent on time and answered."""
        account = self.summary["account"]
        wrong = {name: account[name] for name in ("dropped", "late", "cut", "lost", "missing")}
        wrong |= {"errors": sum(account["errors"].values()), "not connected": sum(account["connect_failed"].values())}
        return ", ".join(f"{count:,} {name}" for name, count in wrong.items() if count)


class BenchStack(Galileo):
    """A context manager: one worker named `bench`, SQLite, and temporary folders."""

    def __init__(self, cores: Cores, **variables: str) -> None:
        self._cores = cores
        self._memory = Path(tempfile.mkdtemp(prefix="galileo-bench-", dir="/dev/shm"))  # where spools are by default
        super().__init__(
            Path(tempfile.mkdtemp(prefix="galileo-bench-")),
            {WORKER: "A"},
            worker_prefix=cores.generating,
            variables=variables,
        )

    def __enter__(self) -> BenchStack:
        super().__enter__()
        assert self.redis.pid is not None
        os.sched_setscheduler(self.redis.pid, os.SCHED_IDLE, os.sched_param(0))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
        finally:
            shutil.rmtree(self.directory)
            shutil.rmtree(self._memory)

    def start(self, name: str, command: list[str], **environment: str) -> Child:
        if name in CONTROLLER:
            command = [*self._cores.in_background, *command]
        return super().start(name, command, **environment)

    def spool(self, worker: str) -> Path:
        return self._memory / worker

    def load(self, plan: dict[str, Any], target: Target, on_sample: Callable[[], None] | None = None) -> Load:
        """Runs a plan to its end, and calls `on_sample` every 0.25 s during the load.

        Raises:
            NotMeasured: it did not finish, its account does not close, or nginx served another number of requests than
                were sent according to the rows.
        """
        served = target.served()
        if on_sample is None:
            experiment_id = str(self.run(plan)["id"])
        else:
            experiment_id = self.begin(plan)
            self._sample(experiment_id, plan, on_sample)
            self.wait_for_status(experiment_id, "FINISHED", "FAILED", "CANCELLED")
        return self._ended(experiment_id, target.served() - served)

    def worker_processes(self) -> list[psutil.Process]:
        """Returns the worker's main process and its descendants."""
        main = psutil.Process(self.children[WORKER].pid)
        return [main, *main.children(recursive=True)]

    def _sample(self, experiment_id: str, plan: dict[str, Any], on_sample: Callable[[], None]) -> None:
        self.wait_for_status(experiment_id, "RUNNING", "FAILED", "CANCELLED")
        start_ns = self._experiment(experiment_id)[1] or 0
        end_s = start_ns / _NS + plan["configuration"]["duration"]
        time.sleep(max(0.0, start_ns / _NS - time.time()))
        while time.time() < end_s - _SAMPLE_EVERY_S:
            on_sample()
            time.sleep(_SAMPLE_EVERY_S)

    def _ended(self, experiment_id: str, served: int) -> Load:
        status, start_ns, plan, summary = self._experiment(experiment_id)
        if status != "FINISHED" or start_ns is None or summary is None:
            raise NotMeasured(f"experiment {experiment_id} ended as {status}:\n{self.log_tails()}")
        account = summary["account"]
        if wrong := account["contradictions"]:
            raise NotMeasured(f"the account does not close: {'; '.join(wrong)}")
        if served != account["sent"]:
            raise NotMeasured(f"nginx served {served:,} requests, {account['sent']:,} were sent according to the rows")
        duration_s = float(plan["configuration"]["duration"])
        last_s = self._last_row_s(experiment_id)
        return Load(experiment_id, duration_s, summary, last_s - start_ns / _NS - duration_s)

    def _experiment(self, experiment_id: str) -> tuple[str, int | None, dict[str, Any], dict[str, Any] | None]:
        sql = "SELECT status, start_broker_ns, plan, summary FROM experiments_experiment WHERE id = ?"
        ((status, start_ns, plan, summary),) = self.query(sql, experiment_id)
        return status, start_ns, json.loads(plan), json.loads(summary) if summary else None

    def _last_row_s(self, experiment_id: str) -> float:
        """Returns when the last batch with rows was stored; the broker has this machine's clock."""
        sql = (
            "SELECT MAX(b.received_at) FROM experiments_batch b"
            " JOIN experiments_shard s ON s.id = b.shard_id JOIN experiments_clientgroup g ON g.id = s.group_id"
            " WHERE g.experiment_id = ? AND b.rows > 0"
        )
        received = datetime.fromisoformat(self.query(sql, experiment_id)[0][0])
        return received.replace(tzinfo=UTC).timestamp()


def plan(hosts: list[str], seconds: float, *, weights: list[float] | None = None, **workload: Any) -> dict[str, Any]:
    """Returns a plan of one interval for one shard; keywords are those of the workload."""
    return {
        "experiment": {"name": "benchmark"},
        "configuration": {
            "duration": seconds,
            "interval": seconds,
            "workloads": [{"service": SERVICE, "shards_per_worker": 1, **workload}],
        },
        "routing": [{"service": SERVICE, "hosts": hosts, "weights": weights or [1.0] * len(hosts)}],
    }
