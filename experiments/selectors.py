"""The reads of the API, the admin and the commands; statistics over traces are in experiments.analysis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from experiments.analysis.live import read_client_counts
from experiments.models import (
    ACTIVE_STATUSES,
    ENDED_SHARD_STATUSES,
    Batch,
    ClientApp,
    ClientAppVersion,
    ClientGroup,
    Event,
    Experiment,
    ExperimentStatus,
    Recording,
    Shard,
    TelemetrySample,
    Worker,
)
from loadgen.arrivals.distributions import described
from loadgen.arrivals.pacer import PRERECORDED
from loadgen.protocol.enums import CommandKind
from loadgen.protocol.settings import NAME_PATTERN
from loadgen.protocol.trace_batch import WINDOW

# The original's words for a status, which the API keeps, and the statuses that each stands for.
WORDS: dict[str, tuple[str, ...]] = {
    "QUEUED": (ExperimentStatus.QUEUED,),
    "IN_PROGRESS": tuple(ACTIVE_STATUSES),
    "FINISHED": (ExperimentStatus.FINISHED,),
    "FAILED": (ExperimentStatus.FAILED,),
    "CANCELLED": (ExperimentStatus.CANCELLED,),
}
WORD_OF = {status: word for word, statuses in WORDS.items() for status in statuses}

# Of a query whose rows are sent on while they are read.
ROWS_PER_QUERY = 2000
# The columns of a series, in the order of the index.
_SERIES = ("metric", "node", "subsystem")


def experiments(word: str | None = None, **exactly: str) -> QuerySet[Experiment]:
    """The experiments without the large columns, newest first.

    Args:
        word: one of `WORDS`, which their status must have.
        exactly: their creator or name.
    """
    found = Experiment.objects.without_documents().filter(**exactly)
    return found if word is None else found.filter(status__in=WORDS[word])


def experiment(experiment_id: str) -> Experiment | None:
    return Experiment.objects.filter(id=experiment_id).first()


def experiment_status(experiment_id: str) -> Experiment | None:
    """As `experiment`, without the large columns."""
    return experiments().filter(id=experiment_id).first()


def interactive_experiment() -> Experiment | None:
    """The running interactive experiment."""
    return Experiment.objects.running_interactive().without_documents().first()


def timeline(experiment_id: str) -> QuerySet[Event]:
    """The events of an experiment, oldest first."""
    return Event.objects.filter(experiment_id=experiment_id).order_by("timestamp", "id")


def telemetry(experiment_id: str, **wanted: str) -> QuerySet[TelemetrySample]:
    """Samples of an experiment by series, each in the order of time, which is the order of the index.

    Args:
        wanted: the metric, node or subsystem; an empty subsystem stands for the whole node.
    """
    return TelemetrySample.objects.filter(experiment_id=experiment_id, **wanted).order_by(
        "metric", "node", "subsystem", "timestamp_ns"
    )


def samples(experiment_id: str, **wanted: str) -> Iterator[tuple[int, str, str, str, float]]:
    """As `telemetry`, as (timestamp_ns, metric, node, subsystem, value), in bounded memory for any number of samples.

    Each query reads at most ROWS_PER_QUERY rows by the index: a single one would hold all rows in the memory of some
    databases' drivers, and a transaction for as long as the reader takes.
    """
    found = telemetry(experiment_id, **wanted)
    series = _next_series(found, None)
    while series is not None:
        after_ns = -1
        rows: list[Any] | None = None
        while rows is None or len(rows) == ROWS_PER_QUERY:
            of_series = found.filter(**series, timestamp_ns__gt=after_ns).order_by("timestamp_ns")
            rows = list(of_series.values_list("timestamp_ns", *_SERIES, "value")[:ROWS_PER_QUERY])
            yield from rows
            after_ns = rows[-1][0] if rows else after_ns
        series = _next_series(found, series)


def _next_series(found: QuerySet[TelemetrySample], last: dict[str, str] | None) -> dict[str, str] | None:
    """The first series after `last`, in the order of `telemetry`; None after the last one."""
    if last is None:
        first: dict[str, str] | None = found.values(*_SERIES).first()
        return first
    for depth in reversed(range(len(_SERIES))):  # another subsystem of the node, another node, another metric
        same = {name: last[name] for name in _SERIES[:depth]}
        beyond = found.filter(**same, **{f"{_SERIES[depth]}__gt": last[_SERIES[depth]]})
        later: dict[str, str] | None = beyond.values(*_SERIES).first()
        if later is not None:
            return later
    return None


def recording(experiment_id: str) -> dict[str, Any] | None:
    """Counts of telemetry and events that were not stored; None before the recorder has seen the experiment."""
    row = Recording.objects.filter(experiment_id=experiment_id).values("unparsable", "example", "dropped").first()
    return None if row is None else dict(row)


@dataclass(frozen=True)
class WorkerLoad:
    """A worker and how many of its slots shards hold."""

    worker: Worker
    used_slots: int


def live_workers(labels: Mapping[str, str] | None = None) -> list[WorkerLoad]:
    """Workers with a current heartbeat and all of the labels, draining ones included, by name."""
    wanted = (labels or {}).items()
    return [load for load in _loads(Worker.objects.live()) if wanted <= load.worker.labels.items()]


def worker(name: str) -> WorkerLoad | None:
    """A worker, live or not."""
    if not NAME_PATTERN.fullmatch(name):
        return None
    # The comparison of some databases is case-insensitive.
    return next((load for load in _loads(Worker.objects.filter(name=name)) if load.worker.name == name), None)


def with_used_slots(workers: QuerySet[Worker]) -> QuerySet[Worker]:
    """The workers with `used_slots`, the number of slots that shards hold; GROUP BY drops the model's default order."""
    return workers.annotate(used_slots=Count("shards", filter=~Q(shards__status__in=ENDED_SHARD_STATUSES)))


def _loads(workers: QuerySet[Worker]) -> list[WorkerLoad]:
    counted: Any = with_used_slots(workers).order_by("name")
    return [WorkerLoad(worker, worker.used_slots) for worker in counted]


def verdict_of(experiment: Experiment) -> str | None:
    """VALID, DEGRADED or INVALID; None without a summary."""
    verdict = (experiment.summary or {}).get("verdict") or {}
    status = verdict.get("status")
    return None if status is None else str(status)


def groups(group_ids: list[str]) -> list[ClientGroup]:
    """The existing interactive client groups among these, in this order."""
    found = ClientGroup.objects.select_related("workload", "interactive_part").in_bulk(group_ids)
    return [found[group_id] for group_id in group_ids if group_id in found]


def open_groups(**exactly: str) -> list[ClientGroup]:
    """The interactive client groups that are not closed, oldest first.

    Args:
        exactly: their `interactive_part__creator` or `workload__service`.
    """
    found = ClientGroup.objects.open().filter(**exactly).select_related("workload", "interactive_part")
    return list(found.order_by("created_at", "id"))


@dataclass(frozen=True)
class ClientInfo:
    """Figures of a client from the ingested batches, about a second old."""

    client_id: str
    requests: int
    failures: int


def clients_of(group: ClientGroup) -> list[ClientInfo]:
    """The open clients of an interactive group."""
    counts: dict[int, tuple[int, int]] = {}
    for stored in group.shards.values_list("client_counts", flat=True):
        counts |= read_client_counts(stored)
    return [ClientInfo(f"{group.id}.{index}", *counts.get(index, (0, 0))) for index in client_indexes(group)]


def are_stored(shard: Shard, rows: int) -> bool:
    """Whether so many rows of a shard's present attempt are ingested. Reads a bounded number of its newest batches."""
    batches = Batch.objects.filter(shard=shard, attempt=shard.attempt).order_by("-number")
    newest = list(batches.values_list("number", "counters")[:WINDOW])
    if not newest:
        return rows == 0
    # A later batch may be stored before an earlier one.
    last, counters = newest[0]
    is_whole = [number for number, _ in newest] == list(range(last, max(-1, last - WINDOW), -1))
    return is_whole and int(counters["rows"]) >= rows


def client_indexes(group: ClientGroup) -> list[int]:
    """The indexes of the open clients of an interactive group."""
    return [index for begin, end in group.interactive_part.active for index in range(begin, end)]


def workers_of_clients(group: ClientGroup) -> dict[int, str | None]:
    """The name of the worker of each client, by the client's index; None while no worker has taken its shard."""
    return {
        index: shard.worker.name if shard.worker else None
        for shard in group.shards.select_related("worker")
        for index in shard.client_indexes
    }


def doing(group: ClientGroup) -> str:
    """The current command of an interactive group for display, such as "2 requests/s each"."""
    command = group.interactive_part.command
    if command.kind == CommandKind.RATE:
        return f"{command.rate_rps:g} requests/s each" if command.rate_rps else "nothing"
    many = "requests" if command.requests is None else f"{command.requests} requests"
    if command.kind == CommandKind.GAPS:
        is_recorded = command.distribution == PRERECORDED
        gaps = "recorded gaps" if is_recorded else described(command.distribution, command.parameters)
        return f"{many} each, gaps of {gaps}"
    return f"{many} each, back to back"


def sends(group: ClientGroup) -> str:
    """The requests of a group for display."""
    spec = group.workload.spec
    if spec["client_app"]:
        return f"app {spec['client_app']} {json.dumps(spec['client_parameters'])}"
    return " ".join(filter(None, (spec["method"], spec["path"], json.dumps(spec["kwargs"]) if spec["kwargs"] else "")))


def worker_facts(load: WorkerLoad) -> dict[str, Any]:
    """A worker as plain data."""
    worker = load.worker
    names = ("name", "status", "labels", "slots", "cores", "memory_bytes", "machine", "hostname", "versions")
    clock = {"clock_uncertainty_s": worker.clock_uncertainty_ns / 1e9}
    return {**{name: getattr(worker, name) for name in names}, "used_slots": load.used_slots, **clock}


def client_app(name: str) -> ClientApp | None:
    """The app of the repository with this name."""
    if not NAME_PATTERN.fullmatch(name):
        return None
    app = ClientApp.objects.filter(name=name).first()
    return app if app is not None and app.name == name else None  # some databases ignore case


def client_app_versions(name: str) -> list[ClientAppVersion]:
    """The versions of an app, newest first; empty without the app."""
    app = client_app(name)
    return [] if app is None else list(app.versions.select_related("app").order_by("-number"))


def newest_version(name: str) -> ClientAppVersion | None:
    """The version that a new experiment uses when it names the app."""
    app = client_app(name)
    return None if app is None else app.versions.select_related("app").order_by("-number").first()


def newest_versions(**exactly: str) -> list[ClientAppVersion]:
    """The newest version of each app, by name.

    Args:
        exactly: its `creator`.
    """
    versions = ClientAppVersion.objects.filter(app=OuterRef("app")).order_by("-number")
    newest = ClientAppVersion.objects.filter(number=Subquery(versions.values("number")[:1]))
    return list(newest.filter(**exactly).select_related("app").order_by("app__name"))


def client_app_of(service: str) -> str | None:
    """The client app with a service's name, as in the original; None: the default HTTP client.

    It may be in the repository, or in the controller's galileo_apps_dir, which must have the contents of the workers'.
    """
    if newest_version(service) is not None:
        return service
    return service if has_local_app(service) else None


def has_local_app(name: str) -> bool:
    """Whether the controller's galileo_apps_dir, and so the workers', has an app with this name."""
    folder = settings.SITE.apps_dir
    return (
        folder is not None and NAME_PATTERN.fullmatch(name) is not None and (folder / name / "generator.py").is_file()
    )
