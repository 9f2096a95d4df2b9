"""Create and cancel experiments."""

import dataclasses
import secrets
from typing import Any

from django.db import transaction
from django.utils import timezone

from experiments.models import ClientGroup, Experiment, Workload
from experiments.plans import Plan
from experiments.plans.workload import QUEUE
from experiments.services import apps, desired, dispatch, events, interactive, partitions, placement
from experiments.services.ids import IdTaken, save_new
from experiments.services.registry import sync_workers
from experiments.services.transitions import CANCELLED_UNSAID, end_at, move_experiment


def check_workers(plan: Plan) -> None:
    """Raises NoMatchingWorkers when some workload's labels match no live worker, and it cannot wait for one."""
    sync_workers()
    for workload in plan.workloads:
        if workload.placement != QUEUE:
            placement.matching_workers(workload.worker_labels)


def create(plan: Plan, creator: str, *, experiment_id: str | None = None, ticket: str | None = None) -> Experiment:
    """Queues an experiment. The plan is valid (experiments.plans); the seed is drawn here when the plan gives none.

    Args:
        experiment_id: a permitted one (experiments.plans.plan); None: the plan's, else one is drawn.
        ticket: of the instruction that asks for it; no two experiments have the same one.

    Raises:
        PlanInvalid: a client app of the repository does not take its parameters.
        IdTaken: nothing was created; the experiment that is there may be the one with this ticket.
        IntegrityError: there is an experiment with this ticket; nothing was created.
    """
    experiment_id = experiment_id or plan.experiment.id
    if (
        experiment_id
        and not Experiment.objects.filter(id=experiment_id).exists()
        and not partitions.make_way(experiment_id)
    ):
        raise IdTaken(f"the traces of an earlier experiment {experiment_id} are still being read")
    specs = apps.resolved(plan.workload_specs())
    now = timezone.now()
    experiment = Experiment(
        name=plan.experiment.name,
        creator=plan.experiment.creator or creator,
        created=now,
        seed=plan.seed if plan.seed is not None else secrets.randbits(63),
        plan=plan.to_dict(),
        metadata=plan.metadata,
        tracing=plan.configuration.tracing,
        ticket=ticket,
    )
    with transaction.atomic():
        save_new(experiment, experiment_id)
        partitions.add(experiment.id)
        for spec, workload in zip(specs, plan.workloads, strict=True):
            Workload.objects.create(
                experiment=experiment,
                index=spec.index,
                service=spec.service,
                clients=workload.clients,
                worker_labels=workload.worker_labels,
                placement=workload.placement,
                shards_per_worker=workload.shards_per_worker,
                shards=workload.shards,
                spec=dataclasses.asdict(spec),
            )
        events.record(experiment.id, "queued", at=now)
        dispatch.kick_reconcile()
    return experiment


def create_failed(
    name: str,
    creator: str,
    reason: str,
    *,
    metadata: dict[str, Any],
    experiment_id: str | None = None,
    ticket: str | None = None,
) -> Experiment:
    """Stores an experiment that nobody can run, FAILED from the first, so that its reason is seen.

    Raises:
        IdTaken, IntegrityError: as `create` does.
    """
    experiment = Experiment(
        name=name,
        creator=creator,
        created=timezone.now(),
        status=Experiment.Status.FAILED,
        ending=Experiment.Status.FAILED,
        reason=reason,
        seed=0,
        metadata=metadata,
        ticket=ticket,
    )
    with transaction.atomic():
        save_new(experiment, experiment_id)
        events.record(experiment.id, "failed", reason, at=experiment.created)
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
    if experiment.interactive:
        return interactive.cancel(experiment_id, reason)
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
