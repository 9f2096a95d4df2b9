"""Interactive experiments: they have no plan, and record the interactive groups from a start to a stop."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils import timezone

from experiments.models import Batch, ClientGroup, Experiment, ExperimentStatus, Shard, ShardStatus
from experiments.services import desired, ending, events, partitions, placement, sending
from experiments.services.broker import broker_now_ns, present_clocks, start_lock
from experiments.services.experiments import save_new
from experiments.services.workers import sync_workers
from routing.errors import Conflict

log = logging.getLogger(__name__)

# The running experiment, its last renewal, and the monotonic time at which this process first saw that.
_renewal: tuple[str, datetime | None, float] = ("", None, 0.0)

# The user's session renews the experiment while it runs.
RENEW_S = 5
LEASE = timedelta(seconds=90)  # the database may be away for 30 s
# And for so long this process must have seen its last renewal: the database's clock may be set.
CONFIRM_S = 3.0 * RENEW_S
ABANDONED = f"its session ended without a stop: it was not renewed for {LEASE.total_seconds():.0f} s"
_LONGEST_S = 7 * 86_400.0


class OtherExperimentRuns(Conflict):
    """Another experiment is active; the message names it."""


class NotRunning(Conflict):
    """The experiment is not interactive or not running; the message names its status."""


def start(name: str, creator: str, metadata: dict[str, Any]) -> Experiment:
    """Starts an experiment that records all interactive groups, those that are spawned later included.

    Raises:
        OtherExperimentRuns
    """
    sync_workers()
    now = timezone.now()
    experiment = Experiment(
        name=name,
        creator=creator,
        metadata=metadata,
        status=ExperimentStatus.RUNNING,
        interactive=True,
        created_at=now,
        starting_at=now,
        started_at=now,
        start_broker_ns=broker_now_ns(),
        renewed_at=Now(),
        seed=0,
        clocks=present_clocks(),
    )
    with start_lock(), transaction.atomic():
        other = Experiment.objects.select_for_update().active().first()
        if other is not None:
            raise OtherExperimentRuns(f"experiment {other} is {other.status}: {how_to_end(other)}")
        save_new(experiment)
        partitions.add(experiment.id)
        events.record(experiment.id, "running", at=now)
        for group in ClientGroup.objects.open():
            _record_open(experiment, group)
    experiment.refresh_from_db()
    return experiment


def _record_open(experiment: Experiment, group: ClientGroup) -> None:
    """Records a group from now on. One that cannot be recorded is on the timeline, and the others are recorded."""
    try:
        with transaction.atomic():
            _record(experiment, group)
            desired.record_in(group, experiment)
    except OperationalError:
        raise
    except Exception:
        log.exception("client group %s cannot be recorded", group.id)
        events.mark(experiment.id, "client group not recorded", group.id)


def record_new(group: ClientGroup) -> None:
    """Adds a group that is being spawned to the running interactive experiment, if there is one."""
    experiment = Experiment.objects.running_interactive().first()
    if experiment is not None:
        _record(experiment, group)
        group.experiment = experiment
        group.save(update_fields=["experiment"])


def how_to_end(experiment: Experiment) -> str:
    """The end of a message about an active experiment: its start, and the call or command that ends it."""
    if not experiment.interactive:
        return f"wait for its end, or stop it with `manage.py cancel {experiment.id}`"
    if experiment.status != ExperimentStatus.RUNNING:
        return "it ends in a moment; start again then"
    return (
        f"it was started by {experiment.creator} at {experiment.started_at:%Y-%m-%d %H:%M:%S} UTC; "
        f"exp.stop({experiment.id!r}) ends it, also from another shell. It ends by itself {LEASE.seconds} s "
        "after its shell has died"
    )


def renew(experiment_id: str) -> None:
    """Renews the lease of the experiment's session. Raises NotRunning."""
    if not _running(experiment_id).update(renewed_at=Now()):
        raise NotRunning(f"experiment {experiment_id} is not running any more")


def trace(experiment_id: str, tracing: bool) -> Experiment:
    """Pauses or resumes the storing of traces of all groups, later ones included. Statistics are always stored. Does
    nothing, and adds no event, if `tracing` is set already.

    Raises:
        Experiment.DoesNotExist, NotRunning
    """
    # Under the lock, a group that is being spawned cannot keep the value that it read before.
    with start_lock(), transaction.atomic():
        experiment = Experiment.objects.select_for_update().get(id=experiment_id)
        if not experiment.interactive or experiment.status != ExperimentStatus.RUNNING:
            raise _not_running(experiment)
        if tracing != experiment.tracing:
            experiment.tracing = tracing
            experiment.save(update_fields=["tracing"])
            events.mark(experiment_id, "tracing resumed" if tracing else "tracing paused")
            for group in ClientGroup.objects.following().select_for_update().filter(experiment=experiment):
                desired.record_in(group, experiment)
    return experiment


def stop(experiment_id: str, reason: str = "") -> Experiment:
    """Ends the recording; the groups continue. Its summary is made when every batch has arrived.

    Raises:
        Experiment.DoesNotExist, NotRunning
    """
    experiment = Experiment.objects.get(id=experiment_id)
    is_stopped = experiment.interactive and ending.stop(experiment, reason)
    experiment.refresh_from_db()
    if not is_stopped:
        raise _not_running(experiment)
    sending.kick_reconcile()
    return experiment


def close_if_abandoned(experiment: Experiment) -> None:
    """Ends an experiment whose session has not renewed it for LEASE."""
    global _renewal
    now_s = time.monotonic()
    if _renewal[:2] != (experiment.id, experiment.renewed_at):
        _renewal = (experiment.id, experiment.renewed_at, now_s)
    # Compared in the database's clock, as the session may run on another machine.
    expired = Experiment.objects.filter(id=experiment.id, renewed_at__lt=Now() - LEASE)
    if now_s - _renewal[2] >= CONFIRM_S and expired.exists():
        log.warning("experiment %s: %s", experiment, ABANDONED)
        stop(experiment.id, ABANDONED)


def is_complete(experiment: Experiment) -> bool:
    """Whether all batches of a stopped experiment are stored: of each shard, all up to a later one or its last."""
    versions: dict[str, int] = experiment.plan.get("stopped_at", {})
    for group_id, version in versions.items():
        for shard in Shard.objects.filter(group=group_id):
            stored = Batch.objects.filter(shard=shard, attempt=shard.attempt)
            newest = stored.aggregate(newest=Max("number"))["newest"]
            if newest is None:
                if not shard.has_ended:
                    return False
                continue
            is_whole = stored.count() == newest + 1
            is_later = stored.filter(version__gte=version).exists() or shard.batches == newest + 1
            if not (is_whole and is_later) and shard.status != ShardStatus.LOST:
                return False
    return True


def _not_running(experiment: Experiment) -> NotRunning:
    return NotRunning(f"experiment {experiment.id} is {experiment.status}, and not interactive and running")


def _record(experiment: Experiment, group: ClientGroup) -> None:
    workload = group.workload
    # The duration is known when the experiment is stopped.
    spec = {**workload.spec, "schedule": [[_LONGEST_S, float(workload.clients)]]}
    placement.workload_row(workload, experiment=experiment, index=workload.index, spec=spec).save()


def _running(experiment_id: str) -> Any:
    return Experiment.objects.running_interactive().filter(id=experiment_id)
