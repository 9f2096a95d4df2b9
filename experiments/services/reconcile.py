"""The reconciler: moves every experiment forward from its stored state. No process owns an experiment."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import OperationalError
from django.utils import timezone
from redis.exceptions import LockNotOwnedError, RedisError, ResponseError
from redis.lock import Lock

from experiments.models import ClientGroup, Experiment, ExperimentStatus
from experiments.services import desired, ending, events, experiments, groups, lifecycle
from experiments.services.broker import LockTimeout, start_lock, try_lock
from experiments.services.workers import sync_workers
from experiments.wall_clock import wall_clock
from routing.redis.synchronisation import synchronise

log = logging.getLogger(__name__)

LOCK_KEY = "galileo:reconcile:lock"
LOCK_TTL_S = 3.0  # a killed holder blocks the next pass for no longer; a living one prolongs it


def reconcile() -> None:
    """Makes one pass over workers, routing and experiments, unless another process is making one.

    The lock only saves work: each step is a conditional UPDATE, which succeeds in one process.
    """
    wall_clock.look()
    with try_lock(LOCK_KEY, LOCK_TTL_S) as lock:
        if lock is not None:
            _pass(lock)


def _pass(lock: Lock) -> None:
    with _set_apart("the workers' registrations"):
        sync_workers()
    with _set_apart("the routing table"):
        synchronise()
    _follow_groups()
    for experiment in Experiment.objects.active().oldest_first():
        with suppress(LockNotOwnedError):  # it has expired
            lock.reacquire()
        with suppress(Experiment.DoesNotExist):  # it was deleted meanwhile
            _forward(experiment)
    _delete_marked()
    promoted: Experiment | None = None
    with suppress(LockTimeout), start_lock(within_s=0):
        promoted = _promote()
    if promoted:
        _forward(promoted)
    _revise_one()
    _clear_one()


@contextmanager
def _set_apart(what: str) -> Iterator[None]:
    """Keeps an exception in one part from stopping the others, except when the broker or the database is away.

    The broker is not away when it refuses a command, for example because a key holds a value of another type.
    """
    try:
        yield
    except ResponseError:
        log.exception("reconciliation of %s failed", what)
    except (RedisError, OperationalError):
        raise
    except Exception:
        log.exception("reconciliation of %s failed", what)


def _follow_groups() -> None:
    """Follows each interactive group; its cost grows with the groups that have not ended."""
    group_ids: list[str] = []
    with _set_apart("the leases of the interactive client groups"):
        group_ids = groups.following()
    for group_id in group_ids:
        with _set_apart(f"client group {group_id}"), suppress(ClientGroup.DoesNotExist):  # it was deleted meanwhile
            groups.keep_up(group_id)


_STEPS = {
    ExperimentStatus.STARTING: lifecycle.start_when_ready,
    ExperimentStatus.RUNNING: lifecycle.follow_load,
    ExperimentStatus.FINALIZING: lifecycle.conclude_when_stored,
}


def _forward(experiment: Experiment) -> None:
    """Takes an experiment through the steps that are due; if a step fails until its time is over, it ends."""
    while step := _STEPS.get(ExperimentStatus(experiment.status)):
        before = experiment.status
        passed = False
        with _set_apart(f"experiment {experiment.id}"):
            desired.project_stale(list(experiment.groups.values_list("id", flat=True)))
            events.record_routing_changes(experiment)
            events.record_planned(experiment)
            step(experiment)
            passed = True
        if not passed:
            with _set_apart(f"the end of experiment {experiment.id}"):
                lifecycle.give_up_when_overdue(experiment)
        experiment.refresh_from_db()
        if experiment.status == before:
            return


def _revise_one() -> None:
    """Revises one summary for batches that arrived after the experiment's end; one, as a pass must not take long."""
    stale = Experiment.objects.with_stale_summary()
    for experiment in stale.oldest_first():
        with _set_apart(f"the summary of experiment {experiment.id}"):
            lifecycle.revise_summary(experiment)
            return  # a summary that cannot be made does not block the others


def _clear_one() -> None:
    """Removes the keys of one ended experiment, as this is rare; one that fails does not block the others."""
    for ended in ending.uncleared():
        with _set_apart(f"the keys of experiment {ended.id}"):
            ending.clear_redis(ended)
            return


def _delete_marked() -> None:
    """Takes each marked experiment a step further in its deletion, before a queued one could be promoted."""
    for experiment_id in Experiment.objects.to_delete().oldest_first().values_list("id", flat=True):
        with _set_apart(f"the deletion of experiment {experiment_id}"), suppress(Experiment.DoesNotExist):
            experiments.continue_deletion(experiment_id)


def _promote() -> Experiment | None:
    """Starts the oldest queued experiment when none is active."""
    if Experiment.objects.active().exists():
        return None
    oldest = Experiment.objects.queued().oldest_first().first()
    now = timezone.now()
    if oldest is None or not Experiment.objects.move(
        oldest.id, ExperimentStatus.QUEUED, ExperimentStatus.STARTING, starting_at=now
    ):
        return None
    events.record(oldest.id, "starting", at=now)
    oldest.refresh_from_db()
    return oldest
