"""All reads of the API, the admin and the commands (statistics over traces are in experiments.statistics)."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from experiments.models import ClientApp, ClientAppVersion, Event, Experiment, Shard, Worker
from experiments.services.registry import LIVE
from loadgen.environment import NAME_PATTERN

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


def events_of(experiment_id: str) -> list[Event]:
    """The experiment's timeline, oldest first."""
    return list(Event.objects.filter(experiment_id=experiment_id))


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


def client_app(name: str) -> ClientApp | None:
    """An app of the repository."""
    if not NAME_PATTERN.fullmatch(name):
        return None
    app = ClientApp.objects.filter(name=name).first()
    return app if app is not None and app.name == name else None  # some databases do not tell case apart


def client_app_versions(name: str) -> list[ClientAppVersion]:
    """The versions of an app, newest first; none of an app that there is not."""
    app = client_app(name)
    return [] if app is None else list(app.versions.select_related("app").order_by("-number"))


def newest_version(name: str) -> ClientAppVersion | None:
    """What a new experiment gets when it names the app."""
    app = client_app(name)
    return None if app is None else app.versions.select_related("app").order_by("-number").first()


def newest_versions() -> list[ClientAppVersion]:
    """The newest version of each app, by name."""
    versions = ClientAppVersion.objects.filter(app=OuterRef("app")).order_by("-number")
    newest = ClientAppVersion.objects.filter(number=Subquery(versions.values("number")[:1]))
    return list(newest.select_related("app").order_by("app__name"))
