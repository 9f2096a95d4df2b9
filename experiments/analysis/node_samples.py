"""Telemetry of each node while an experiment's load ran: figures of a metric, and the CPU quotas of workers."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Avg, Count, Max, Min, QuerySet

from experiments.analysis.verdict import QuotaFacts
from experiments.models import Experiment, TelemetrySample

NS = 1_000_000_000
# Telemetry is not authenticated; sums of impossible values would overflow.
MAX_VALUE = 1e15


class Figures(NamedTuple):
    """Of the samples of one metric of one node."""

    samples: int
    mean: float
    least: float
    greatest: float


def figures_of(experiment: Experiment, metric: str) -> dict[str, Figures]:
    """Node → the figures of a metric of the whole node, while the load ran."""
    found = _during_the_load(experiment).filter(metric=metric).order_by().values_list("node")
    rows = found.annotate(samples=Count("id"), mean=Avg("value"), least=Min("value"), greatest=Max("value"))
    return {node: Figures(*figures) for node, *figures in rows}


def quotas_of(experiment: Experiment) -> dict[str, QuotaFacts]:
    """Worker → its CPU quota; workers without one are left out, as are those that publish no telemetry."""
    throttled = figures_of(experiment, "cpu_throttled")
    return {
        node: QuotaFacts(cores=quota.least, throttled_share=min(1.0, throttled[node].mean / 100))
        for node, quota in figures_of(experiment, "cpu_quota").items()
        if node in throttled
    }


def _during_the_load(experiment: Experiment) -> QuerySet[TelemetrySample]:
    samples = TelemetrySample.objects.filter(experiment=experiment, subsystem="", value__gte=0, value__lte=MAX_VALUE)
    start_ns = experiment.start_broker_ns
    if experiment.started_at is None or start_ns is None:
        return samples.none()
    if experiment.ended_at is None:
        return samples.filter(timestamp_ns__gte=start_ns)
    end_ns = start_ns + round((experiment.ended_at - experiment.started_at).total_seconds() * NS)
    return samples.filter(timestamp_ns__gte=start_ns, timestamp_ns__lte=end_ns)
