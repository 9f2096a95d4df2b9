"""Create, cancel and delete experiments."""

import dataclasses
import secrets
import string
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from experiments.models import ClientGroup, Experiment, Workload
from experiments.plans import Plan
from experiments.services import apps, desired, dispatch, events, partitions, placement
from experiments.services.registry import sync_workers
from experiments.services.transitions import CANCELLED_UNSAID, end_at, move_experiment

ID_ATTEMPTS = 20


class ExperimentBusy(Exception):
    """The experiment's load is being stopped; it can be deleted when it has ended."""


def check_workers(plan: Plan) -> None:
    """Raises NoMatchingWorkers when some workload's labels match no live worker."""
    sync_workers()
    for workload in plan.workloads:
        placement.matching_workers(workload.worker_labels)


def create(plan: Plan, creator: str) -> Experiment:
    """Queues an experiment. The plan is valid (experiments.plans); the seed is drawn here when the plan gives none.

    Raises:
        PlanInvalid: a client app of the repository does not take its parameters.
    """
    specs = apps.resolved(plan.workload_specs())
    now = timezone.now()
    experiment = Experiment(
        name=plan.name,
        creator=plan.creator or creator,
        created=now,
        seed=plan.seed if plan.seed is not None else secrets.randbits(63),
        plan=plan.to_dict(),
        metadata=plan.metadata,
    )
    with transaction.atomic():
        _save_under_a_new_id(experiment, now)
        partitions.add(experiment.id)
        for spec, workload in zip(specs, plan.workloads, strict=True):
            Workload.objects.create(
                experiment=experiment,
                index=spec.index,
                service=spec.service,
                clients=workload.clients,
                worker_labels=workload.worker_labels,
                shards_per_worker=workload.shards_per_worker,
                spec=dataclasses.asdict(spec),
            )
        events.record(experiment.id, "queued", at=now)
        dispatch.kick_reconcile()
    return experiment


def cancel(experiment_id: str, reason: str) -> Experiment:
    """Stops an experiment's load and leads it to CANCELLED; one that is ending or has ended is left alone.

    Raises:
        Experiment.DoesNotExist
    """
    experiment = Experiment.objects.get(id=experiment_id)
    status = Experiment.Status
    if experiment.status not in (status.QUEUED, status.STARTING, status.RUNNING):
        return experiment
    now = timezone.now()
    ended = {"ending": status.CANCELLED, "reason": reason, "end": end_at(now)}
    if move_experiment(experiment_id, status.QUEUED, status.CANCELLED, **ended):
        events.record(experiment_id, "cancelled", reason, at=now)
    else:
        # The abort path: Redis `stop` first, the row second.
        desired.stop_now(list(ClientGroup.objects.filter(experiment=experiment).values_list("id", flat=True)))
        for source in (status.STARTING, status.RUNNING):
            if move_experiment(experiment_id, source, status.FINALIZING, finalizing=now, **ended):
                # A start may have slipped in between the stop and this change.
                desired.stop_now(
                    list(
                        ClientGroup.objects.filter(experiment=experiment)
                        .exclude(state=ClientGroup.State.STOP)
                        .values_list("id", flat=True)
                    )
                )
                events.record(experiment_id, "cancelled", reason, at=now)
                break
        else:
            # The reconciler may have seen the stopped shards before the row was told.
            unsaid = Experiment.objects.filter(id=experiment_id, ending=status.CANCELLED, reason=CANCELLED_UNSAID)
            if unsaid.update(reason=reason):
                events.record(experiment_id, "cancelled", reason, at=now)
    dispatch.kick_reconcile()
    experiment.refresh_from_db()
    return experiment


def delete(experiment_id: str) -> None:
    """Removes a queued or ended experiment with all that belongs to it.

    Raises:
        Experiment.DoesNotExist
        ExperimentBusy: it was active; its load is stopped now, and it can be deleted once it has ended.
    """
    experiment = cancel(experiment_id, "deleted")
    if experiment.status not in Experiment.ENDED:
        raise ExperimentBusy(f"experiment {experiment_id} is being stopped; delete it again when it has ended")
    with transaction.atomic():
        experiment.delete()
        partitions.remove(experiment_id)


def _save_under_a_new_id(experiment: Experiment, now: datetime) -> None:
    for _ in range(ID_ATTEMPTS):
        experiment.id = new_id(now)
        try:
            with transaction.atomic():
                experiment.save(force_insert=True)
            return
        except IntegrityError:
            if not Experiment.objects.filter(id=experiment.id).exists():
                raise
    raise RuntimeError(f"no free experiment id was found in {ID_ATTEMPTS} attempts")


def new_id(now: datetime) -> str:
    """`YYYYMMDDHHMM-xxxx`: the minute and four random characters, as the original Galileo makes it."""
    alphabet = string.ascii_lowercase + string.digits
    return f"{now:%Y%m%d%H%M}-{''.join(secrets.choice(alphabet) for _ in range(4))}"
