"""CPU and memory of each node while an experiment's load ran, from its telemetry."""

from __future__ import annotations

from typing import Any

from experiments.analysis.node_samples import figures_of
from experiments.models import Experiment, NodeInfo, Recording

KIB = 1024


def node_loads(experiment: Experiment) -> dict[str, Any] | None:
    """Mean and maximum of CPU (a share of all cores) and RAM of each node, as JSON; None if nothing was recorded.

    A figure is None if the node did not send it.
    """
    recording = Recording.objects.filter(experiment=experiment).first()
    cpu, ram = figures_of(experiment, "cpu"), figures_of(experiment, "ram")
    if not (cpu or ram or (recording and (recording.unparsable or recording.dropped))):
        return None
    infos = dict(NodeInfo.objects.filter(experiment=experiment).values_list("node", "info"))
    nodes = []
    for node in sorted({*cpu, *ram}):
        busy, used = cpu.get(node), ram.get(node)
        nodes.append(
            {
                "node": node,
                "samples": max(figures.samples for figures in (busy, used) if figures is not None),
                "cpu_mean_share": None if busy is None else busy.mean / 100,
                "cpu_max_share": None if busy is None else busy.greatest / 100,
                "ram_mean_bytes": None if used is None else round(used.mean * KIB),
                "ram_max_bytes": None if used is None else round(used.greatest * KIB),
                "ram_bytes": _total_ram(infos.get(node, {})),
            }
        )
    unstored = recording or Recording()
    return {"nodes": nodes, "unparsable": unstored.unparsable, "example": unstored.example, "dropped": unstored.dropped}


def _total_ram(info: dict[str, str]) -> int | None:
    """A node's memory in bytes, which its information gives in kB; None if that is missing or malformed."""
    text = info.get("ram", "")
    return int(text) * KIB if text.isascii() and text.isdigit() and len(text) < 16 else None
