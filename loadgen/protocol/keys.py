"""Names that controller and workers share: Celery tasks and queues, Redis keys, and how long these live."""

from __future__ import annotations

import re

# --- Celery: task and queue names -----------------------------------------------------------------------------------

TASK_RUN_SHARD = "galileo.run_shard"  # one argument: a ShardOrder as a dict
TASK_INGEST_BATCH = "galileo.ingest_batch"  # one argument: bytes, a message (loadgen/protocol/trace_batch.py)
TASK_RECONCILE = "galileo.reconcile"  # no arguments

CONTROL_QUEUE = "galileo.control"


def ingest_queue(shard_id: int, queues: int) -> str:
    """The ingest queue of a shard's batches. One process reads a queue, so that a shard's batches stay in order."""
    return f"galileo.ingest.{shard_id % queues}"


def label_queue(label: str, value: str) -> str:
    """The queue of a label; `label_queue("worker_name", name)` is a worker's own."""
    return f"galileo_{label}={value}"


# --- Redis keys -----------------------------------------------------------------------------------------------------

WORKERS_KEY = "galileo:workers"  # set of the names of all workers that registered
WORKER_TTL_S = 6
WORKER_HEARTBEAT_S = 2


def worker_key(name: str) -> str:
    """String, WorkerInfo as JSON, expires after WORKER_TTL_S: the worker is alive while it exists."""
    return f"galileo:worker:{name}"


def group_key(group_id: str) -> str:
    """Hash {version, document, renewals}: the desired state of a client group, a GroupDocument as JSON; a counter by
    which the controller, while it lives, renews the lease of an interactive group's unbounded load."""
    return f"galileo:group:{group_id}"


def group_channel(group_id: str) -> str:
    """Channel on which each new version of the group's document is announced (the version as text)."""
    return f"galileo:group:{group_id}:changed"


def shard_key(shard_id: int) -> str:
    """String, ShardStatus as JSON, written by the shard (expires after SHARD_STATUS_TTL_S without a write)."""
    return f"galileo:shard:{shard_id}"


def lease_key(shard_id: int) -> str:
    """String "<attempt>:<token>", PX LEASE_TTL_MS, renewed by the shard itself: the fence of a shard."""
    return f"galileo:shard:{shard_id}:lease"


def newest_attempt_key(shard_id: int) -> str:
    """String "<attempt> <group>" of the newest attempt that ever ran; outlives the lease (SHARD_STATUS_TTL_S)."""
    return f"galileo:shard:{shard_id}:newest"


def app_key(digest: str) -> str:
    """String, the zip archive of the client app with this SHA-256; expires after APP_TTL_S without an order for it."""
    return f"galileo:app:{digest}"


def ack_key(worker: str) -> str:
    """List of answers, which the worker's agent pops: "<batch>" is in the database, "<batch> <why>" is refused."""
    return f"galileo:acks:{worker}"


def ingest_progress_key(queue: str) -> str:
    """Counter that ingest increments per batch: while it moves, the queue is being worked off."""
    return f"galileo:ingest:progress:{queue}"


# Lists, first in first out from left to right: the scripts that users push, as JSON, and those that a daemon has taken.
INSTRUCTIONS_KEY = "galileo:experiments:instructions"
INSTRUCTIONS_PROCESSING_KEY = "galileo:experiments:instructions:processing"


# Every key of Galileo, of the routing table and the telemetry daemons, and of Celery's transport (kombu): queues, their
# bindings, unacknowledged messages, mailboxes, results. A client's id, under which a user may store gaps, begins
# with that of its experiment or group, which has neither `:` nor `_`.
_OWN_KEY = re.compile(
    r"galileo[:_/].*|galileo\.(?:control|ingest\.).*|routing:.*|telemd\.info:.*"
    r"|_kombu\..*|unacked(?:_.*)?|celery(?:[-\x06].*|ev.*)?|.*\.pidbox(?:\x06.*)?",
    re.DOTALL,
)


def is_own_key(key: str) -> bool:
    """Whether Galileo or Celery keeps its own data under a key of Redis, so that users may not name it."""
    return _OWN_KEY.fullmatch(key) is not None


SHARD_STATUS_TTL_S = 3600
GROUP_LEASE_S = 60  # an unbounded load whose lease was not renewed for so long pauses
APP_TTL_S = 600
LEASE_TTL_MS = 6000
LEASE_RENEW_S = 2.0
# From the decision to start to the first arrival: every shard must have received the start by then.
START_AHEAD_NS = 2_500_000_000
