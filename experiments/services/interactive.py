"""Interactive experiments: they have no plan, and record what the interactive groups do between a start and a stop."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Max
from django.db.models.functions import Now
from django.utils import timezone

from experiments.models import Batch, ClientGroup, Experiment, Shard, Workload
from experiments.services import desired, dispatch, events, partitions
from experiments.services.clock import broker_now_ns
from experiments.services.ids import save_new
from experiments.services.locks import one_at_a_time
from experiments.services.transitions import move_experiment
from routing.errors import Conflict

log = logging.getLogger(__name__)

Status = Experiment.Status

# The session of the user renews the experiment while it lives.
RENEW_S = 5
LEASE = timedelta(seconds=90)  # the database may be away for 30 s
ABANDONED = f"its session ended without a stop: it was not renewed for {LEASE.total_seconds():.0f} s"
_LONGEST_S = 7 * 86_400.0
# At most so many rows in the report's table of intervals.
_MOST_INTERVALS = 60


class OtherExperimentRuns(Conflict):
    """Another experiment is under way; the message names it."""


class NotRunning(Conflict):
    """The experiment is none that is interactive and running; the message says what it is."""


def start(name: str, creator: str, metadata: dict[str, Any]) -> Experiment:
    """Starts an experiment over the interactive groups that there are, and those that come.

    Raises:
        OtherExperimentRuns
    """
    now = timezone.now()
    experiment = Experiment(
        name=name,
        creator=creator,
        metadata=metadata,
        status=Status.RUNNING,
        interactive=True,
        created=now,
        starting=now,
        start=now,
        start_broker_ns=broker_now_ns(),
        renewed=Now(),
        seed=0,
    )
    with one_at_a_time(), transaction.atomic():
        other = Experiment.objects.select_for_update().filter(status__in=Experiment.ACTIVE).first()
        if other is not None:
            raise OtherExperimentRuns(
                f"experiment {other} is {other.status}; stop it, or wait for its end, and start again"
            )
        save_new(experiment)
        partitions.add(experiment.id)
        events.record(experiment.id, "running", at=now)
        for group in ClientGroup.objects.filter(interactive=True, ended=None).exclude(state=ClientGroup.State.STOP):
            _record(experiment, group)
            _attach(group, experiment)
    experiment.refresh_from_db()
    return experiment


def record_new(group: ClientGroup) -> None:
    """Has a group that is being spawned recorded by the interactive experiment that runs, if one does."""
    experiment = Experiment.objects.filter(status=Status.RUNNING, interactive=True).first()
    if experiment is not None:
        _record(experiment, group)
        group.experiment = experiment
        group.save(update_fields=["experiment"])


def renew(experiment_id: str) -> None:
    """Says that the experiment's session lives. Raises NotRunning."""
    if not _running(experiment_id).update(renewed=Now()):
        raise NotRunning(f"experiment {experiment_id} is not running any more")


def trace(experiment_id: str, tracing: bool) -> Experiment:
    """Pauses the storing of traces, or resumes it, of all groups of the experiment and those that come. Statistics go
    on in any case. What is so already stays, without an event.

    Raises:
        Experiment.DoesNotExist, NotRunning
    """
    # A group that is being spawned just now must not keep what it has read before.
    with one_at_a_time(), transaction.atomic():
        experiment = Experiment.objects.select_for_update().get(id=experiment_id)
        if not experiment.interactive or experiment.status != Status.RUNNING:
            raise _not_running(experiment)
        if tracing != experiment.tracing:
            experiment.tracing = tracing
            experiment.save(update_fields=["tracing"])
            events.mark(experiment_id, "tracing resumed" if tracing else "tracing paused")
            for group in ClientGroup.objects.select_for_update().filter(experiment=experiment, ended=None):
                _attach(group, experiment)
    return experiment


def stop(experiment_id: str, reason: str = "") -> Experiment:
    """Ends the recording; the groups go on. Its summary comes when every batch has.

    Raises:
        Experiment.DoesNotExist, NotRunning
    """
    now = timezone.now()
    with transaction.atomic():
        experiment = Experiment.objects.select_for_update().get(id=experiment_id)
        if not experiment.interactive or not _end(experiment, Status.FINISHED, reason):
            raise _not_running(experiment)
        events.record(experiment_id, "stopped", reason, at=now)
        dispatch.kick_reconcile()
    experiment.refresh_from_db()
    return experiment


def cancel(experiment_id: str, reason: str) -> Experiment:
    """Ends the recording, as a cancelled one; one that is not running is left alone. The groups go on.

    Raises:
        Experiment.DoesNotExist
    """
    now = timezone.now()
    with transaction.atomic():
        experiment = Experiment.objects.select_for_update().get(id=experiment_id)
        if experiment.status == Status.RUNNING and _end(experiment, Status.CANCELLED, reason):
            events.record(experiment_id, "cancelled", reason, at=now)
            dispatch.kick_reconcile()
    experiment.refresh_from_db()
    return experiment


def close_if_abandoned(experiment: Experiment) -> None:
    """Ends an experiment whose session has died."""
    # By the clock of the database, as the session's may be another.
    if Experiment.objects.filter(id=experiment.id, renewed__lt=Now() - LEASE).exists():
        log.warning("experiment %s: %s", experiment, ABANDONED)
        stop(experiment.id, ABANDONED)


def is_complete(experiment: Experiment) -> bool:
    """Whether every batch of a stopped experiment is in the database: each shard has brought a later one, or its last
    one, and all before it."""
    versions: dict[str, int] = experiment.plan.get("stopped_at", {})
    for group_id, version in versions.items():
        for shard in Shard.objects.filter(group=group_id):
            stored = Batch.objects.filter(shard=shard, attempt=shard.attempt)
            newest = stored.aggregate(newest=Max("number"))["newest"]
            if newest is None:
                if shard.status not in Shard.ENDED:
                    return False
                continue
            is_whole = stored.count() == newest + 1
            is_later = stored.filter(version__gte=version).exists() or shard.batches == newest + 1
            if not (is_whole and is_later) and shard.status != Shard.Status.LOST:
                return False
    return True


def _not_running(experiment: Experiment) -> NotRunning:
    return NotRunning(f"experiment {experiment.id} is {experiment.status}, and not interactive and running")


def _end(experiment: Experiment, ending: str, reason: str) -> bool:
    """RUNNING → FINALIZING, and the groups go on without the experiment; within a transaction."""
    now = timezone.now()
    assert experiment.start is not None  # it runs
    duration_s = max(0.001, (now - experiment.start).total_seconds())
    groups = list(ClientGroup.objects.select_for_update().filter(experiment=experiment, interactive=True))
    plan = {
        # Each group's version from which on its batches are not the experiment's.
        "stopped_at": {group.id: group.version + 1 for group in groups},
        "configuration": {"interval": max(1.0, round(duration_s / _MOST_INTERVALS))},
    }
    fields = {"ending": ending, "reason": reason, "end": now, "finalizing": now, "plan": plan}
    if not move_experiment(experiment.id, Status.RUNNING, Status.FINALIZING, **fields):
        return False
    for group in groups:
        _attach(group, None)
    for workload in experiment.workloads.all():
        workload.spec["schedule"] = [[duration_s, float(workload.clients)]]
        workload.save(update_fields=["spec"])
    return True


def _record(experiment: Experiment, group: ClientGroup) -> None:
    workload = group.workload
    # How long it will last is known when it is stopped.
    spec = {**workload.spec, "schedule": [[_LONGEST_S, float(workload.clients)]]}
    Workload.objects.create(
        experiment=experiment,
        index=workload.index,
        service=workload.service,
        clients=workload.clients,
        worker_labels=workload.worker_labels,
        placement=workload.placement,
        shards_per_worker=workload.shards_per_worker,
        shards=workload.shards,
        spec=spec,
    )


def _attach(group: ClientGroup, experiment: Experiment | None) -> None:
    ClientGroup.objects.filter(id=group.id).update(experiment=experiment, version=F("version") + 1)
    if group.ended is None:  # of others nothing is left in Redis
        desired.project_after_commit(group.id)


def _running(experiment_id: str) -> Any:
    return Experiment.objects.filter(id=experiment_id, status=Status.RUNNING, interactive=True)
