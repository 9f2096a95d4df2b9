"""Creation of experiments."""

import dataclasses
import secrets
import string
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from experiments.models import Experiment, ExperimentStatus, Workload
from experiments.plans import Plan
from experiments.plans.workload import QUEUE
from experiments.services import apps, events, partitions, placement, sending
from experiments.services.workers import sync_workers
from routing.errors import Conflict

ID_ATTEMPTS = 20


class IdTaken(Conflict):
    """There is an experiment of the asked id already, or its traces are; the message says so."""


def save_new(experiment: Experiment, asked_id: str | None = None) -> None:
    """Inserts the row under the asked id, or under one that is drawn until it is free, within the caller's transaction.

    Raises:
        IdTaken
    """
    for _ in range(ID_ATTEMPTS):
        experiment.id = asked_id or new_id(experiment.created_at)
        try:
            with transaction.atomic():
                experiment.save(force_insert=True)
            return
        except IntegrityError:
            if not Experiment.objects.filter(id=experiment.id).exists():
                raise
            if asked_id:
                raise IdTaken(f"there is an experiment {asked_id} already") from None
    raise RuntimeError(f"no free experiment id was found in {ID_ATTEMPTS} attempts")


def new_id(now: datetime) -> str:
    """`YYYYMMDDHHMM-xxxx`: the minute and four random characters, as the original Galileo makes it."""
    alphabet = string.ascii_lowercase + string.digits
    return f"{now:%Y%m%d%H%M}-{''.join(secrets.choice(alphabet) for _ in range(4))}"


def check_workers(plan: Plan) -> None:
    """Raises NoMatchingWorkers when some workload's labels match no live worker, and it cannot wait for one."""
    sync_workers()
    for workload in plan.workloads:
        if workload.placement != QUEUE:
            placement.matching_workers(workload.worker_labels)


def create(
    plan: Plan, creator: str, *, experiment_id: str | None = None, instruction_id: str | None = None
) -> Experiment:
    """Queues an experiment. The plan is valid (experiments.plans); the seed is drawn here when the plan gives none.

    Args:
        experiment_id: a permitted one (experiments.plans.plan); None: the plan's, else one is drawn.
        instruction_id: of the instruction that asks for it; no two experiments have the same one.

    Raises:
        PlanInvalid: a client app of the repository does not take its parameters.
        IdTaken: nothing was created; the experiment that is there may be the one from this instruction.
        IntegrityError: there is an experiment from this instruction; nothing was created.
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
        created_at=now,
        seed=plan.seed if plan.seed is not None else secrets.randbits(63),
        plan=plan.to_dict(),
        metadata=plan.metadata,
        tracing=plan.configuration.tracing,
        instruction_id=instruction_id,
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
        sending.kick_reconcile()
    return experiment


def create_failed(
    name: str,
    creator: str,
    reason: str,
    *,
    metadata: dict[str, Any],
    experiment_id: str | None = None,
    instruction_id: str | None = None,
) -> Experiment:
    """Stores an experiment that cannot run as FAILED, so that its reason is visible.

    Raises:
        IdTaken, IntegrityError: as `create` does.
    """
    experiment = Experiment(
        name=name,
        creator=creator,
        created_at=timezone.now(),
        status=ExperimentStatus.FAILED,
        final_status=ExperimentStatus.FAILED,
        reason=reason,
        seed=0,
        metadata=metadata,
        instruction_id=instruction_id,
    )
    with transaction.atomic():
        save_new(experiment, experiment_id)
        events.record(experiment.id, "failed", reason, at=experiment.created_at)
    return experiment
