"""Workers without a process: their registrations, as an agent would write them."""

from __future__ import annotations

import time
from typing import Any

import redis

from loadgen.protocol.codec import to_json
from loadgen.protocol.keys import WORKER_TTL_S, WORKERS_KEY, worker_key
from loadgen.protocol.messages import ClockSample, WorkerInfo


def worker_info(name: str, **fields: Any) -> WorkerInfo:
    """A registration of a worker in zone A with four slots; `fields` replace what differs."""
    now_ns = time.time_ns()
    values: dict[str, Any] = {
        "name": name,
        "instance": f"{name}-1",
        "labels": {"zone": "A", "worker_name": name},
        "slots": 4,
        "cores": 4,
        "memory_bytes": 8 << 30,
        "machine": "aarch64",
        "hostname": name,
        "boot_id": "boot",
        "pid": 1,
        "versions": {"galileo": "0.1.0"},
        "status": "ready",
        "started_broker_ns": now_ns,
        "heartbeat_broker_ns": now_ns,
        "clock": ClockSample(offset_ns=0, uncertainty_ns=1000),
        "spool_batches": 0,
        "spool_bytes": 0,
    }
    return WorkerInfo(**{**values, **fields})


def register(broker: redis.Redis, name: str, **fields: Any) -> None:
    """Writes the registration of a worker that lives for one TTL."""
    broker.sadd(WORKERS_KEY, name)
    broker.set(worker_key(name), to_json(worker_info(name, **fields)), ex=WORKER_TTL_S)
