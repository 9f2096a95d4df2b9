"""Revision of an ended experiment's summary after late batches."""

from __future__ import annotations

from django.db import transaction

from experiments.analysis.summary import summarise
from experiments.models import ENDED_STATUSES, Experiment


def is_stale(experiment: Experiment) -> bool:
    """Whether batches arrived after the experiment's summary was made."""
    summary = experiment.summary
    return summary is None or summary.get("batches") != _batches(experiment)


def revise(experiment: Experiment) -> None:
    """Makes the summary again if batches arrived late, and clears `summary_stale`; does nothing before the end.

    `summary_stale` stays set if another batch arrived meanwhile: another call is due then.

    The first summary is made shortly before the experiment's status changes: the caller that changes the status sets
    `summary_stale` with it, and calls this afterwards.
    """
    summary = experiment.summary
    if summary is None or is_stale(experiment):
        summary = summarise(experiment)
    with transaction.atomic():
        # Ingest sets `summary_stale` after it has committed a batch. If it does so before this lock, the count below
        # includes the batch; if later, it sets the flag again after our commit. So no batch is forgotten, wherever
        # this process is killed.
        locked = Experiment.objects.select_for_update().filter(pk=experiment.pk, status__in=ENDED_STATUSES)
        if locked.only("pk").first() is None:
            return
        stale = summary["batches"] != _batches(experiment)
        Experiment.objects.filter(pk=experiment.pk).update(summary=summary, summary_stale=stale)
    experiment.summary, experiment.summary_stale = summary, stale


def _batches(experiment: Experiment) -> int:
    """The number of stored batches."""
    return experiment.batches.count()
