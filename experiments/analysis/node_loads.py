"""CPU and memory of each node while an experiment's load ran, from its telemetry."""

from __future__ import annotations

from typing import Any

from django.db.models import Avg, Count, Max, QuerySet

from experiments.models import Experiment, NodeInfo, Recording, TelemetrySample

NS = 1_000_000_000
KIB = 1024
# Telemetry is not authenticated; sums of impossible values would overflow.
MAX_VALUE = 1e15


def node_loads(experiment: Experiment) -> dict[str, Any] | None:
    """Mean and maximum of CPU (a share of all cores) and RAM of each node, as JSON; None if nothing was recorded.

    A figure is None if the node did not send it.
    """
    recording = Recording.objects.filter(experiment=experiment).first()
    samples = _during_the_load(experiment)
    cpu, ram = _figures(samples, "cpu"), _figures(samples, "ram")
    if not (cpu or ram or (recording and (recording.unparsable or recording.dropped))):
        return None
    infos = dict(NodeInfo.objects.filter(experiment=experiment).values_list("node", "info"))
    nodes = []
    for node in sorted({*cpu, *ram}):
        cpu_samples, cpu_mean, cpu_max = cpu.get(node, (0, None, None))
        ram_samples, ram_mean, ram_max = ram.get(node, (0, None, None))
        nodes.append(
            {
                "node": node,
                "samples": max(cpu_samples, ram_samples),
                "cpu_mean_share": None if cpu_mean is None else cpu_mean / 100,
                "cpu_max_share": None if cpu_max is None else cpu_max / 100,
                "ram_mean_bytes": None if ram_mean is None else round(ram_mean * KIB),
                "ram_max_bytes": None if ram_max is None else round(ram_max * KIB),
                "ram_bytes": _total_ram(infos.get(node, {})),
            }
        )
    unstored = recording or Recording()
    return {"nodes": nodes, "unparsable": unstored.unparsable, "example": unstored.example, "dropped": unstored.dropped}


def _during_the_load(experiment: Experiment) -> QuerySet[TelemetrySample]:
    samples = TelemetrySample.objects.filter(experiment=experiment, subsystem="", value__gte=0, value__lte=MAX_VALUE)
    start_ns = experiment.start_broker_ns
    if experiment.started_at is None or start_ns is None:
        return samples.none()
    if experiment.ended_at is None:
        return samples.filter(timestamp_ns__gte=start_ns)
    end_ns = start_ns + round((experiment.ended_at - experiment.started_at).total_seconds() * NS)
    return samples.filter(timestamp_ns__gte=start_ns, timestamp_ns__lte=end_ns)


def _figures(samples: QuerySet[TelemetrySample], metric: str) -> dict[str, tuple[int, float | None, float | None]]:
    """Node → (samples, mean, maximum)."""
    found = samples.filter(metric=metric).order_by().values_list("node")
    rows = found.annotate(count=Count("id"), mean=Avg("value"), maximum=Max("value"))
    return {node: (count, mean, maximum) for node, count, mean, maximum in rows}


def _total_ram(info: dict[str, str]) -> int | None:
    """A node's memory in bytes, which its information gives in kB; None if that is missing or malformed."""
    text = info.get("ram", "")
    return int(text) * KIB if text.isascii() and text.isdigit() and len(text) < 16 else None
