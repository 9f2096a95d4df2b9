"""The messages between controller and workers: frozen, versioned dataclasses.

Clocks: `_broker_ns` is the time of the Redis server (its TIME command) in ns since the Unix epoch, the one axis that
all workers share. Everything else in ns is a duration or relative to a stated zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from loadgen.protocol.codec import MessageError
from loadgen.protocol.enums import (
    CaptureMode,
    CommandKind,
    ConnectionMode,
    CookieMode,
    DesiredState,
    LoadModel,
    OnWorkerLoss,
    Scheme,
    ShardState,
)
from loadgen.protocol.request_ids import REQUEST_ID_HEADER
from routing.routers import ROUND_ROBIN

# The keywords of `requests.request` that make the request, and those that say how it is sent.
REQUEST_KEYWORDS = ("params", "data", "json", "files", "headers", "cookies", "auth")
SENDING_KEYWORDS = ("timeout", "allow_redirects", "verify", "cert")
# Those that a plan may give. A client app may give more, whose values are Python objects or have no effect.
DATA_KEYWORDS = (*REQUEST_KEYWORDS, *SENDING_KEYWORDS)
KEYWORDS = (*DATA_KEYWORDS, "stream", "hooks", "proxies")


@dataclass(frozen=True)
class WorkloadSpec:
    """The requests of a group's clients. Validated by the controller; the engine trusts it.

    Open model: `schedule` holds (duration_s, rate_rps) steps of the service's total rate. Closed model: it holds
    (duration_s, clients) steps; client c is active in the steps of more than c clients, and pauses for a time drawn
    from the think time between a response and its next request. Interactive: it is empty, and the group's document has
    a command. Without a client app, `method`, `path` and `kwargs` (those of `requests.request`) make the request.
    """

    index: int  # position in the plan: seeds and offsets depend on it
    service: str
    schedule: list[list[float]]
    model: LoadModel = LoadModel.OPEN
    arrival_process: str = "constant"
    arrival_parameters: list[float] = field(default_factory=list)  # those of the function of Python's `random`
    think_time: str = "constant"  # closed: a distribution of seconds
    think_time_parameters: list[float] = field(default_factory=lambda: [0.0])  # constant takes one: the seconds
    requests_per_client: int | None = None  # closed: a client is done after so many
    client_app: str | None = None
    client_app_digest: str | None = None  # of its archive in the repository; None: it was not there
    client_parameters: dict[str, Any] = field(default_factory=dict)
    method: str = "GET"
    path: str = "/"
    kwargs: dict[str, Any] = field(default_factory=dict)
    router: str = ""  # one of routing.routers.ROUTERS; "": the worker's
    static_host: str = ""  # of the static router; "": the worker's
    balancer: str = ROUND_ROBIN  # one of routing.routers.BALANCERS
    scheme: Scheme = Scheme.HTTP
    connection: ConnectionMode = ConnectionMode.KEEP_ALIVE
    max_connections_per_host: int | None = None  # per shard; None: as many as are in flight
    request_timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    max_in_flight: int = 1000  # per shard
    max_lateness_s: float = 1.0
    request_id_header: str = REQUEST_ID_HEADER  # "" for none
    cookies: CookieMode | None = None  # None: that of the app's manifest, or ignore
    ids_version: int = 1  # of the request ids
    capture: CaptureMode = CaptureMode.NONE
    capture_bytes: int = 4096  # of a request, and of a response


@dataclass(frozen=True)
class ShardOrder:
    """The argument of `galileo.run_shard`.

    `clients` holds (start, stop, step) ranges of client indexes; a client index is unique in its group. An order is
    void after `void_after_broker_ns`: in the broker's clock, as Celery's own expiry trusts the device's. One that waits
    in a label's queue has none (None), and is void as soon as its group is stopped, or gone. An attempt that takes over
    from a lost one skips the arrivals whose time has passed; `clock_step_ns` is by how much the broker's clock has been
    set since the start of the running experiment, in whose clock the start and the rows' times are given.
    """

    shard_id: int
    attempt: int
    shard_index: int  # position in the group, the offset of the balancer
    group_id: str
    experiment_id: str | None
    clients: list[list[int]]
    void_after_broker_ns: int | None
    takes_over: bool = False
    clock_step_ns: int = 0


@dataclass(frozen=True)
class GroupCommand:
    """The command of an interactive group from `start_broker_ns` on, until its next command begins.

    `number` counts the group's commands from 1 on. `requests` are those of each client, None for no end (gaps, back to
    back). `parameters` are those of the distribution of gaps in seconds, as drawn, or the gaps themselves if it is
    PRERECORDED (arrivals/pacer.py); then they are sent as far as they go. `recorded` are gaps that each client has of
    its own, by its index as a text; then `parameters` is empty, and a client that is not in it sends nothing.
    """

    number: int
    start_broker_ns: int
    kind: CommandKind = CommandKind.RATE
    rate_rps: float = 0.0  # of each client
    requests: int | None = None
    distribution: str = "constant"
    parameters: list[float] = field(default_factory=list)
    recorded: dict[str, list[float]] = field(default_factory=dict)

    @property
    def is_unbounded(self) -> bool:
        """Whether it has no end of its own, so that it needs a controller that is alive."""
        if self.kind == CommandKind.RATE:
            return self.rate_rps > 0
        return self.requests is None and self.distribution != "prerecorded"


@dataclass(frozen=True)
class GroupDocument:
    """The desired state of a client group: the projection of its database row, which issues `version`.

    The schedule counts from `start_broker_ns`; at a stop, requests in flight have `stop_grace_s`. A missing document
    means no news, never stop.
    """

    version: int
    group_id: str
    experiment_id: str | None
    state: DesiredState
    seed: int
    total_clients: int
    workload: WorkloadSpec
    start_broker_ns: int | None = None
    stop_grace_s: float = 0.25
    on_worker_loss: OnWorkerLoss = OnWorkerLoss.CONTINUE
    phase: GroupCommand | None = None  # of an interactive group
    active: list[list[int]] = field(default_factory=list)  # its clients that take part, as (begin, end) ranges
    pending: list[list[int]] = field(default_factory=list)  # and those that will when their shards are ready
    tracing: bool = True  # whether rows are to be stored, or only counted


@dataclass(frozen=True)
class ClockSample:
    """Offset of a device's monotonic clock to the broker's: broker = monotonic + offset, within ± uncertainty."""

    offset_ns: int
    uncertainty_ns: int


@dataclass(frozen=True)
class ShardStatus:
    """A shard's status, written by itself, or by its agent when its process has died.

    `reason` is a sentence when it failed (with a traceback's last lines for an app) or was lost.
    """

    shard_id: int
    attempt: int
    worker: str
    pid: int
    state: ShardState
    clock: ClockSample | None = None
    descriptor_limit: int = 0
    reason: str = ""
    phase: int = 0  # interactive: the number of the command in effect
    phases_done: list[int] = field(default_factory=list)  # and of the newest ones that ended with all of their requests
    is_deserted: bool = False  # it paused its unbounded load, as the controller had not renewed it
    rows: int = 0  # interactive: recorded when one of `phases_done` ended, or later


@dataclass(frozen=True)
class WorkerInfo:
    """A worker's registration and heartbeat, written by its agent."""

    name: str
    instance: str  # new for each start of the worker
    labels: dict[str, str]
    slots: int
    cores: int
    memory_bytes: int
    machine: str  # aarch64, x86_64
    hostname: str
    boot_id: str
    pid: int  # of the Celery worker's main process
    versions: dict[str, str]
    status: str  # ready | draining
    started_broker_ns: int
    heartbeat_broker_ns: int
    clock: ClockSample
    spool_batches: int
    spool_bytes: int


@dataclass(frozen=True)
class Counters:
    """Cumulative counts of a shard at the time when a batch was sealed."""

    planned: int = 0  # arrivals that the pacer yielded so far, without the skipped ones
    rows: int = 0
    sent: int = 0
    completed: int = 0
    errors: int = 0
    dropped: int = 0
    late: int = 0
    connect_failed: int = 0
    cut: int = 0
    bytes_received: int = 0
    # Arrivals that had passed when this attempt took over, without a row. Closed model: the clients that began again.
    skipped: int = 0
    captures_left_out: int = 0  # that there was no room for in a batch
    cut_short: bool = False  # the rest of a stopped plan was too long for a row each: the counts leave it out


@dataclass(frozen=True)
class Gauges:
    """State of a shard's process when a batch was sealed; the ns are cumulative since the load's start."""

    in_flight: int = 0
    connections: int = 0
    cpu_ns: int = 0  # CPU time of the shard's process
    wait_ns: int = 0  # time that it was runnable, but another process had the core (schedstat; 0 where unknown)
    wall_ns: int = 0
    others_ns: int = 0  # time that others used the shard's core, or all other cores (loadgen/device/cores.py)
    stolen_ns: int = 0  # time that the hypervisor gave that core to other machines
    max_stall_ns: int = 0  # longest time between two turns of the event loop since the last batch
    # What the loop did meanwhile (engine/stalls.py); for the rest of that time the process was stopped.
    stall_waited_ns: int = 0
    stall_app_ns: int = 0
    stall_collecting_ns: int = 0
    stall_sealing_ns: int = 0
    stall_own_ns: int = 0
    app_ns: int = 0  # time in the calls of the client app, and in the preparing of what they returned
    slow_app_ns: int = 0  # of that, time in calls of more than 10 ms each
    longest_app_ns: int = 0  # the longest of these calls since the load's start
    pool_waits: int = 0  # requests that waited for more than 10 ms for one of max_connections_per_host
    clock_offset_ns: int = 0  # a fresh sample, kept for drift; the start's mapping never changes
    clock_uncertainty_ns: int = 0
    spool_bytes: int = 0


@dataclass(frozen=True)
class BatchHeader:
    """The header of a trace batch; the records follow (loadgen/protocol/trace_batch.py).

    `epoch_broker_ns` is the broker time that the records' times are relative to. Rows are numbered within their shard,
    each attempt from a base of its own; the batch holds rows [first_row, first_row + rows). `end` marks an attempt's
    last batch: its `number` + 1 is the number of batches, its counters are the totals.
    """

    shard_id: int
    attempt: int
    group_id: str
    experiment_id: str | None
    worker: str
    number: int
    first_row: int
    rows: int
    epoch_broker_ns: int
    hosts: list[str]
    counters: Counters
    gauges: Gauges
    version: int = 0  # of the group's document in effect
    traced: bool = True  # whether its rows are to be stored, or only counted
    service: str = ""  # "" when the shard ended before it had the document
    request_id_header: str = ""
    ids_version: int = 1
    captures_bytes: int = 0  # of the section behind the records
    columns: dict[str, str] = field(default_factory=dict)  # typecode by name, of the records
    addresses: list[str] = field(default_factory=list)  # behind each host, "" if it is not a name; empty if none is
    end: str = ""  # in the final batch: one of enums.ENDS
    reason: str = ""  # of the end, in the final batch: "" when the schedule ran to its end

    @property
    def id(self) -> str:
        return batch_id(self.group_id, self.shard_id, self.attempt, self.number)

    @property
    def final(self) -> bool:
        return bool(self.end)


# Safe in a file's name. A batch's name is parsed from the right, as a group's id has dots, too.
GROUP_ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}"


def check_group_id(group_id: str) -> None:
    """Raises MessageError for an id that cannot be part of a file's name."""
    if not re.fullmatch(GROUP_ID_PATTERN, group_id):
        raise MessageError(f"group_id: must be up to 64 of A-Z a-z 0-9 . -, got {group_id!r:.80}")


def batch_id(group_id: str, shard_id: int, attempt: int, number: int) -> str:
    """Name of a batch in answers, file names and logs.

    The group's id is part of it, because a new database beside an old broker or spool issues the same shard ids again,
    and its answers would delete batches of the old one.
    """
    return f"{group_id}.{shard_id}.{attempt}.{number}"
