"""Live figures: the progress of an experiment, and the requests of each client of an interactive group.

Progress is read from the per-second statistics, so that its cost does not depend on the rate (see also series.py).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from django.db.models import F, Sum
from django.db.models.functions import Coalesce
from numpy.typing import NDArray

from experiments.analysis.histogram import Histogram
from experiments.analysis.shard_scope import schedule_of
from experiments.models import Experiment, SecondStats
from loadgen.arrivals.schedule import Schedule
from loadgen.protocol.enums import LoadModel
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.outcomes import FIRST_NOT_SENT, Outcome

NS = 1_000_000_000
# A request is counted once it is done and its batch is ingested, so that the last seconds are still incomplete.
SETTLE_S = 2
WINDOW_S = 3
INSTANT_NS = 1000

_CLIENT_COUNTS = np.dtype("<i8")


@dataclass(frozen=True)
class Progress:
    """The figures of a running experiment.

    Counts are since the start; `planned` counts the schedule's arrivals up to now. The closed model plans no arrivals
    (None); there, `clients` is the number of active clients. The achieved rate and the response times are those of the
    last whole seconds that are complete (None while there are none); planned rate and clients are those of the same
    seconds, and the present ones while there are none.
    """

    elapsed_s: float
    duration_s: float
    planned: int | None
    planned_rps: float | None
    clients: int | None
    achieved_rps: float | None
    response_p50_s: float | None
    response_p99_s: float | None
    rows: int
    sent: int
    completed: int
    errors: int
    dropped: int
    late: int


@dataclass(frozen=True)
class PlannedLoad:
    """The schedules of an experiment's workloads: rates of the open ones, numbers of clients of the closed ones."""

    rates: list[Schedule]
    clients: list[Schedule]

    @property
    def duration_ns(self) -> int:
        return max((schedule.duration_ns for schedule in (*self.rates, *self.clients)), default=0)

    def arrivals(self, from_ns: int, to_ns: int) -> float | None:
        """Arrivals planned between two times in ns since the start; None if a workload plans no arrivals."""
        return None if self.clients else _integral(self.rates, from_ns, to_ns)

    def active_clients(self, from_ns: int, to_ns: int) -> float | None:
        """The mean number of active clients between two times; None without a workload of the closed model."""
        return _integral(self.clients, from_ns, to_ns) * NS / (to_ns - from_ns) if self.clients else None


def planned_load(experiment: Experiment, indexes: Collection[int] | None = None) -> PlannedLoad:
    """The planned load of the workloads with these indexes; None: of all."""
    load = PlannedLoad([], [])
    workloads = experiment.workloads.order_by("index")
    if indexes is not None:
        workloads = workloads.filter(index__in=indexes)
    for workload_spec in workloads.values_list("spec", flat=True):
        spec = WorkloadSpec(**workload_spec)
        (load.rates if spec.model == LoadModel.OPEN else load.clients).append(schedule_of(spec))
    return load


def _integral(schedules: Iterable[Schedule], from_ns: int, to_ns: int) -> float:
    return sum(schedule.arrivals_before(to_ns) - schedule.arrivals_before(from_ns) for schedule in schedules)


def progress(experiment: Experiment, now_broker_ns: int | None = None) -> Progress:
    """The present progress of an experiment.

    Args:
        now_broker_ns: the time in the broker's clock; by default this machine's, which may differ slightly.
    """
    load = planned_load(experiment)
    duration_ns = load.duration_ns
    now_ns = time.time_ns() if now_broker_ns is None else now_broker_ns
    start_ns = experiment.start_broker_ns
    elapsed_ns = 0 if start_ns is None else min(max(now_ns - start_ns, 0), duration_ns)
    achieved_rps, response_time = None, Histogram()
    since_ns, until_ns = (0, 0) if start_ns is None else _settled(start_ns, duration_ns, now_ns)
    if start_ns is not None and since_ns < until_ns:
        achieved_rps, response_time = _achieved(experiment, start_ns, since_ns, until_ns)
    else:
        is_running = start_ns is not None and now_ns >= start_ns
        # Before the start, the planned rate is 0.
        since_ns = elapsed_ns if is_running else duration_ns
        until_ns = since_ns + INSTANT_NS
    planned, planned_then = load.arrivals(0, elapsed_ns), load.arrivals(since_ns, until_ns)
    clients = load.active_clients(since_ns, until_ns)
    rows = SecondStats.objects.filter(experiment=experiment)
    sums = rows.aggregate(**{name: Coalesce(Sum(name), 0) for name in ("arrivals", "sent", "completed")})
    unsent: Counter[str] = Counter()
    # Reads only seconds with unsent arrivals; a good run has none.
    for outcomes in rows.filter(arrivals__gt=F("sent")).values_list("outcomes", flat=True):
        unsent.update(outcomes)
    return Progress(
        elapsed_s=elapsed_ns / NS,
        duration_s=duration_ns / NS,
        planned=None if planned is None else round(planned),
        planned_rps=None if planned_then is None else planned_then * NS / (until_ns - since_ns),
        clients=None if clients is None else round(clients),
        achieved_rps=achieved_rps,
        response_p50_s=_seconds(response_time.quantile(0.5)),
        response_p99_s=_seconds(response_time.quantile(0.99)),
        rows=sums["arrivals"],
        sent=sums["sent"],
        completed=sums["completed"],
        errors=sums["sent"] - sums["completed"],
        dropped=unsent[str(Outcome.DROPPED.value)],
        late=unsent[str(Outcome.LATE.value)],
    )


def _settled(start_ns: int, duration_ns: int, now_ns: int) -> tuple[int, int]:
    """The last WINDOW_S whole seconds of the broker's clock that are complete, in ns since the start."""
    end_ns = start_ns + duration_ns
    until = min(now_ns // NS - SETTLE_S, -(-end_ns // NS))
    return max((until - WINDOW_S) * NS - start_ns, 0), min(until * NS, end_ns) - start_ns


def _achieved(experiment: Experiment, start_ns: int, since_ns: int, until_ns: int) -> tuple[float, Histogram]:
    """Rate of requests sent, and response times, between two times since the start."""
    seconds = SecondStats.objects.filter(
        experiment=experiment, second__gte=(start_ns + since_ns) // NS, second__lt=-(-(start_ns + until_ns) // NS)
    )
    found = list(seconds.values_list("sent", "response_time"))
    return sum(sent for sent, _ in found) * NS / (until_ns - since_ns), Histogram.merged(times for _, times in found)


def _seconds(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / NS


def added_client_counts(
    stored: bytes | memoryview | None, clients: NDArray[np.int64], outcomes: NDArray[np.int64]
) -> bytes:
    """The client counts of a shard of an interactive group, with the rows of a batch added.

    They are stored with the shard as one array, because a row for each of ten thousand clients could not be updated
    four times a second: little-endian 64-bit integers, first the requests of clients 0 to the shard's last, then their
    failures. A request that was not sent counts as a failure, and not as a request.
    """
    counts = _client_counts(stored)
    size = max(counts.shape[1], int(clients.max(initial=-1)) + 1)
    requests = np.bincount(clients[outcomes < FIRST_NOT_SENT], minlength=size)
    failures = np.bincount(clients[outcomes != Outcome.COMPLETED], minlength=size)
    total = np.stack([requests, failures]).astype(_CLIENT_COUNTS)
    total[:, : counts.shape[1]] += counts
    return total.tobytes()


def read_client_counts(stored: bytes | memoryview | None) -> dict[int, tuple[int, int]]:
    """Client → (requests, failures), for each client that has any."""
    requests, failures = _client_counts(stored).tolist()
    return {client: both for client, both in enumerate(zip(requests, failures, strict=True)) if both != (0, 0)}


def _client_counts(stored: bytes | memoryview | None) -> NDArray[np.int64]:
    return np.frombuffer(bytes(stored or b""), _CLIENT_COUNTS).reshape(2, -1)
