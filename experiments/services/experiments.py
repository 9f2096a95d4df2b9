"""Creation and deletion of experiments."""

import dataclasses
import secrets
import string
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from redis.exceptions import RedisError

from experiments.models import Experiment, ExperimentStatus, Trace
from experiments.plans import Plan
from experiments.services import apps, ending, events, partitions, placement, sending
from experiments.services.workers import sync_workers
from loadgen.arrivals.pacer import ARRIVALS_VERSION
from routing.errors import Conflict

ID_ATTEMPTS = 20
# The most traces that a pass of the reconciler removes where the traces of all experiments share one table.
ROWS_PER_PASS = 50_000


class IdTaken(Conflict):
    """An experiment has the requested id already, or traces of a deleted one have it still."""


def save_new(experiment: Experiment, asked_id: str | None = None) -> None:
    """Inserts the row under the asked id, or a random free one, within the caller's transaction.

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
    """`YYYYMMDDHHMM-xxxx`: the minute in UTC and four random characters, as in the original Galileo."""
    alphabet = string.ascii_lowercase + string.digits
    return f"{now:%Y%m%d%H%M}-{''.join(secrets.choice(alphabet) for _ in range(4))}"


def check_workers(plan: Plan) -> None:
    """Raises NoMatchingWorkers or TooFewSlots for a plan that the live workers could not run together."""
    sync_workers()
    placement.check_slots(plan.workloads)


def create(
    plan: Plan, creator: str, *, experiment_id: str | None = None, instruction_id: str | None = None
) -> Experiment:
    """Queues an experiment from a valid plan; draws its seed when the plan has none.

    Args:
        experiment_id: a valid id (experiments.plans.plan); None: the plan's, or a random one.
        instruction_id: the instruction that creates it; unique among experiments.

    Raises:
        PlanInvalid: a client app of the repository refuses its parameters.
        IdTaken: nothing was created; the existing experiment may come from the same instruction.
        IntegrityError: the instruction has created an experiment before; nothing was created.
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
        plan=plan.to_dict() | {"arrivals_version": ARRIVALS_VERSION},
        metadata=plan.metadata,
        tracing=plan.configuration.tracing,
        instruction_id=instruction_id,
    )
    with transaction.atomic():
        save_new(experiment, experiment_id)
        partitions.add(experiment.id)
        for spec, workload in zip(specs, plan.workloads, strict=True):
            placement.workload_row(
                workload, experiment=experiment, index=spec.index, spec=dataclasses.asdict(spec)
            ).save(force_insert=True)
        events.record(experiment.id, "queued", at=now)
        if plan.older_times:
            events.record(experiment.id, "other intended times", plan.older_times, at=now)
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


def delete(experiment_id: str) -> Experiment | None:
    """Removes an experiment with all that belongs to it; one that is active is stopped first.

    Returns:
        None when it was removed at once; else the experiment, which the reconciler removes when its load has ended.

    Raises:
        Experiment.DoesNotExist
    """
    if not Experiment.objects.filter(id=experiment_id).update(deletion_requested=True):
        raise Experiment.DoesNotExist
    experiment = ending.cancel(experiment_id, "deleted")
    if experiment.has_ended:
        try:
            ending.clear_redis_if_needed(experiment)
        except RedisError:
            return experiment  # without its row, its keys in Redis would never be found again
        _remove(experiment_id)
        return None
    return experiment


def continue_deletion(experiment_id: str) -> None:
    """Takes the next step in removing a marked experiment; the process that marked it may have died since."""
    experiment = ending.cancel(experiment_id, "deleted")
    if not experiment.has_ended:
        return
    ending.clear_redis_if_needed(experiment)
    if connection.vendor == "postgresql" or not _remove_some_traces(experiment_id):
        _remove(experiment_id)


def _remove(experiment_id: str) -> None:
    with transaction.atomic():
        Experiment.objects.filter(id=experiment_id).delete()
        partitions.remove(experiment_id)


def _remove_some_traces(experiment_id: str) -> bool:
    """Removes at most ROWS_PER_PASS traces; returns whether more are left."""
    traces = Trace.objects.filter(experiment=experiment_id).order_by("id")
    last = traces.values_list("id", flat=True)[ROWS_PER_PASS - 1 : ROWS_PER_PASS].first()
    if last is None:
        return False
    traces.filter(id__lte=last).order_by()._raw_delete(using="default")
    return True
