"""The timeline of an experiment."""

from datetime import datetime
from uuid import uuid4

from django.utils import timezone

from experiments.models import Event, Experiment
from experiments.plans.errors import Problems
from experiments.plans.fields import text_reason
from routing import selectors as routing_selectors

MAX_VALUE = 4000


def record(experiment_id: str, name: str, value: str = "", *, key: str = "", at: datetime | None = None) -> None:
    """Puts an event on the timeline; one with the same `key` (default: its name) is recorded once."""
    Event.objects.get_or_create(
        experiment_id=experiment_id,
        key=key or name,
        defaults={"name": name, "value": value, "timestamp": at or timezone.now()},
    )


def mark(experiment_id: str, name: str, value: str) -> None:
    """Puts a user's mark on the timeline, however often it is the same.

    Raises:
        PlanInvalid: name or value cannot be stored.
    """
    problems = Problems()
    if reason := text_reason(name):
        problems.add("name", reason)
    if value and (reason := text_reason(value, MAX_VALUE)):
        problems.add("value", reason)
    problems.raise_if_any()
    record(experiment_id, name.strip(), value, key=f"mark:{uuid4().hex}")


def record_routing_changes(experiment: Experiment) -> None:
    """Puts the routing versions of the experiment's services on its timeline: the first in force, and each change."""
    if experiment.start is None:
        return
    services = list(experiment.workloads.values_list("service", flat=True))
    known = set(experiment.events.filter(name="routing").values_list("key", flat=True))
    revisions = routing_selectors.in_force(services, experiment.start)
    revisions += routing_selectors.revisions(services, since=experiment.start, until=experiment.end)
    for revision in revisions:
        key = f"routing:{revision.service}:{revision.version}"
        if key in known:
            continue
        routes = zip(revision.hosts, revision.weights, strict=True)
        hosts = "removed" if revision.removed else ", ".join(f"{host}@{weight:g}" for host, weight in routes)
        value = f"{revision.service} version {revision.version}: {hosts} (by {revision.changed_by})"
        record(experiment.id, "routing", value, key=key, at=max(revision.changed_at, experiment.start))
