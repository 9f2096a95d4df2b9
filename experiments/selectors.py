"""All reads of the API, the admin and the commands (statistics over traces are in experiments.statistics)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet

from experiments.models import Event, Experiment, NodeInfo, Recording, Shard, TelemetrySample, Worker
from experiments.services.registry import LIVE

Status = Experiment.Status

# The original's words, which the API keeps, and the phases that each stands for.
WORDS: dict[str, tuple[str, ...]] = {
    "QUEUED": (Status.QUEUED,),
    "IN_PROGRESS": tuple(Experiment.ACTIVE),
    "FINISHED": (Status.FINISHED,),
    "FAILED": (Status.FAILED,),
    "CANCELLED": (Status.CANCELLED,),
}
_WORD_OF = {phase: word for word, phases in WORDS.items() for phase in phases}


def word_of(status: str) -> str:
    """The original's word for a status."""
    return _WORD_OF[status]


def experiments(word: str | None = None) -> QuerySet[Experiment]:
    """Every experiment, newest first, without the large columns; only those of one of `WORDS`, if given."""
    found = Experiment.objects.defer("plan", "metadata", "summary")
    return found if word is None else found.filter(status__in=WORDS[word])


def experiment(experiment_id: str) -> Experiment | None:
    return Experiment.objects.filter(id=experiment_id).first()


def experiment_status(experiment_id: str) -> Experiment | None:
    """As `experiment`, without the large columns: for who asks again and again."""
    return experiments().filter(id=experiment_id).first()


def timeline(experiment_id: str) -> QuerySet[Event]:
    """The events of an experiment, oldest first."""
    return Event.objects.filter(experiment_id=experiment_id).order_by("timestamp", "id")


def events_of(experiment_id: str) -> list[Event]:
    """As `timeline`, all of it."""
    return list(timeline(experiment_id))


def telemetry(experiment_id: str, **wanted: str) -> QuerySet[TelemetrySample]:
    """Samples of an experiment, series by series, each in the order of time: as the index has them.

    Args:
        wanted: the exact metric, node or subsystem; an empty subsystem means the whole node.
    """
    return TelemetrySample.objects.filter(experiment_id=experiment_id, **wanted).order_by(
        "metric", "node", "subsystem", "timestamp_ns"
    )


@dataclass(frozen=True)
class TelemetryCounts:
    """How much there is of an experiment's telemetry, and what of it is not stored."""

    samples: int
    nodes: int
    unparsable: int
    dropped: int


def recording(experiment_id: str) -> dict[str, Any] | None:
    """What of an experiment's telemetry and events is not stored; None when the recorder has not seen it."""
    row = Recording.objects.filter(experiment_id=experiment_id).values("unparsable", "example", "dropped").first()
    return None if row is None else dict(row)


def telemetry_counts(experiment_id: str) -> TelemetryCounts | None:
    """None when the recorder has not seen the experiment."""
    missing = recording(experiment_id)
    if missing is None:
        return None
    return TelemetryCounts(
        telemetry(experiment_id).count(),
        NodeInfo.objects.filter(experiment_id=experiment_id).count(),
        missing["unparsable"],
        missing["dropped"],
    )


@dataclass(frozen=True)
class WorkerLoad:
    """A worker and how many of its slots shards hold."""

    worker: Worker
    used_slots: int


def live_workers() -> list[WorkerLoad]:
    """Workers whose heartbeat is there, draining ones too, by name."""
    counted = Worker.objects.filter(status__in=LIVE).annotate(
        used_slots=Count("shards", filter=~Q(shards__status__in=Shard.ENDED))
    )
    return [WorkerLoad(worker, worker.used_slots) for worker in counted]


def verdict_of(experiment: Experiment) -> str | None:
    """VALID, DEGRADED or INVALID; None while there is no summary."""
    verdict = (experiment.summary or {}).get("verdict") or {}
    status = verdict.get("status")
    return None if status is None else str(status)
