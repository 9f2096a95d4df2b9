"""The timeline of an experiment."""

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.utils import timezone

from experiments.models import Event, Experiment, ExperimentStatus
from experiments.services import broker
from loadgen.protocol.topics import Mark
from routing import selectors as routing_selectors
from routing.errors import Conflict

# A load that runs to its end counts as ended when its time is over by the broker's clock, which may be a little ahead
# of this process's clock: the events that a plan has at its very end count as reached by then.
_END_SLACK = timedelta(seconds=1)
_PLANNED = "plan:"
BROKER_CLOCK_STEPPED = "broker clock stepped"


# The experiment whose clocks this process read last, and the step since its start, drift included.
_read: tuple[str, int] | None = None


class ExperimentOver(Conflict):
    """The experiment has ended, and its timeline is closed."""


def record(experiment_id: str, name: str, value: str = "", *, key: str = "", at: datetime | None = None) -> None:
    """Adds an event to the timeline, once for each `key`, which is its name by default."""
    Event.objects.get_or_create(
        experiment_id=experiment_id,
        key=key or name,
        defaults={"name": name, "value": value, "timestamp": at or timezone.now()},
    )


def mark(experiment_id: str, name: str, value: str = "", at: datetime | None = None) -> Event:
    """Adds a user's mark to the timeline; calling it twice adds two.

    Raises:
        Experiment.DoesNotExist
        ExperimentOver: its summary contains the timeline already.
    """
    experiment = Experiment.objects.only("status").get(id=experiment_id)
    if experiment.has_ended:
        raise ExperimentOver(f"experiment {experiment_id} has ended, its timeline is closed")
    return Event.objects.create(
        experiment=experiment, key=f"mark:{uuid.uuid4()}", name=name, value=value, timestamp=at or timezone.now()
    )


def record_marks(marks: Iterable[tuple[str, Mark]]) -> None:
    """Adds published events to timelines; an event that is stored again is added once."""
    Event.objects.bulk_create(
        (
            Event(
                experiment_id=experiment_id,
                timestamp=broker.to_datetime(mark.timestamp_ns),
                name=mark.name,
                value=mark.value,
                key=_key_of(mark),
            )
            for experiment_id, mark in marks
        ),
        ignore_conflicts=True,
    )


def _key_of(mark: Mark) -> str:
    digest = hashlib.sha256(f"{mark.name} {mark.value}".encode()).hexdigest()[:32]
    return f"published:{mark.timestamp_ns}:{digest}"


def record_routing_changes(experiment: Experiment) -> None:
    """Adds the routing versions of the experiment's services to its timeline: the first in force, and each change."""
    if experiment.started_at is None:
        return
    services = list(experiment.workloads.values_list("service", flat=True))
    known = set(experiment.events.filter(name="routing").values_list("key", flat=True))
    revisions = routing_selectors.in_force(services, experiment.started_at)
    revisions += routing_selectors.revisions(services, since=experiment.started_at, until=experiment.ended_at)
    for revision in revisions:
        key = f"routing:{revision.service}:{revision.version}"
        if key in known:
            continue
        routes = zip(revision.hosts, revision.weights, strict=True)
        hosts = "removed" if revision.removed else ", ".join(f"{host}@{weight:g}" for host, weight in routes)
        value = f"{revision.service} version {revision.version}: {hosts} (by {revision.changed_by})"
        record(experiment.id, "routing", value, key=key, at=max(revision.changed_at, experiment.started_at))


def record_planned(experiment: Experiment) -> None:
    """Adds the plan's events to the timeline when they are due; events after an early end are omitted."""
    planned = experiment.plan.get("events", [])
    if experiment.started_at is None or not planned:
        return
    until = experiment.ended_at or broker.load_time(experiment)
    if experiment.final_status == ExperimentStatus.FINISHED:
        until += _END_SLACK
    known = set(experiment.events.filter(key__startswith=_PLANNED).values_list("key", flat=True))
    for number, event in enumerate(planned):
        key, at = f"{_PLANNED}{number}", experiment.started_at + timedelta(seconds=event["at"])
        if at <= until and key not in known:
            record(experiment.id, event["name"], event["value"], key=key, at=at)


def record_clock_step(experiment: Experiment) -> None:
    """Adds a step of the broker's clock to the timeline, once for each amount.

    Between two readings of this process, drift is far below a second; before its first one it may have added up.
    """
    global _read
    readings = broker.clock_readings(experiment)
    step = broker.common_step_ns(readings)
    if step is None:
        return
    if _read is not None and _read[0] == experiment.id:
        before_ns, least_ns = _read[1], broker.STEP_NS
    else:
        before_ns = broker.recorded_step_ns(experiment)
        least_ns = broker.STEP_NS + round(broker.elapsed_s(experiment) * broker.MOST_DRIFT_NS)
    # The second comparison: another process may have recorded it.
    if abs(step - before_ns) >= least_ns and abs(step - broker.recorded_step_ns(experiment)) >= broker.STEP_NS:
        _record_clock_step(experiment, readings, step, step - before_ns)
    _read = experiment.id, step


def _record_clock_step(
    experiment: Experiment, readings: Sequence[broker.Reading], step_ns: int, change_ns: int
) -> None:
    workers = ", ".join(sorted({reading.worker for reading in readings}))
    value = (
        f"by {change_ns / 1e9:+.6g} s against the monotonic clock of {workers}: the load's times count on "
        "from its start, telemetry has the new time"
    )
    number = experiment.events.filter(key__startswith=broker.CLOCK_STEP).count()
    record(experiment.id, BROKER_CLOCK_STEPPED, value, key=f"{broker.CLOCK_STEP}{step_ns}:{number}")
