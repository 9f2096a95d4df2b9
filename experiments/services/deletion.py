"""Deletes experiments: the request is stored first, so that the reconciler completes it when a process dies."""

from __future__ import annotations

from django.db import connection, transaction
from redis.exceptions import RedisError

from experiments.models import Experiment, Trace
from experiments.services import ending, lifecycle, partitions

# Trace rows that a pass of the reconciler removes from a table shared by several experiments: a pass must be short.
ROWS_PER_PASS = 50_000


def delete(experiment_id: str) -> Experiment | None:
    """Removes an experiment with all that belongs to it; one that is active is stopped first.

    Returns:
        None when it is gone, else how it stands: the reconciler removes it when its load has ended.

    Raises:
        Experiment.DoesNotExist
    """
    if not Experiment.objects.filter(id=experiment_id).update(deletion_requested=True):
        raise Experiment.DoesNotExist
    experiment = ending.cancel(experiment_id, "deleted")
    if experiment.has_ended:
        try:
            lifecycle.tidy_if_untidy(experiment)
        except RedisError:
            return experiment  # its keys in Redis could never be found again
        _remove(experiment_id)
        return None
    return experiment


def go_on(experiment_id: str) -> None:
    """The next step in removing an experiment that is marked; the process that marked it may have died since."""
    experiment = ending.cancel(experiment_id, "deleted")
    if not experiment.has_ended:
        return
    lifecycle.tidy_if_untidy(experiment)
    if connection.vendor == "postgresql" or not _remove_some_traces(experiment_id):
        _remove(experiment_id)


def _remove(experiment_id: str) -> None:
    with transaction.atomic():
        Experiment.objects.filter(id=experiment_id).delete()
        partitions.remove(experiment_id)


def _remove_some_traces(experiment_id: str) -> bool:
    """Whether there are more."""
    traces = Trace.objects.filter(experiment=experiment_id).order_by("id")
    last = traces.values_list("id", flat=True)[ROWS_PER_PASS - 1 : ROWS_PER_PASS].first()
    if last is None:
        return False
    traces.filter(id__lte=last).order_by()._raw_delete(using="default")
    return True
