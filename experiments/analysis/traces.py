"""Traces of an experiment as lines with the public column names.

The columns are those of a worker's trace log: the original Galileo's first, then ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from experiments.analysis.shard_scope import shards_of
from experiments.models import Capture, Experiment, Trace
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.trace_line import TraceLine, trace_line

_CHUNK = 2000

COLUMNS = TraceLine._fields
TIMES = ("created", "sent", "done", "dispatched")
_FACTS = {  # public name → column
    "created": "intended_ns", "sent": "sent_ns", "done": "done_ns", "status": "status", "server": "host",
    "dispatched": "dispatched_ns", "outcome": "outcome", "size": "size", "routing_version": "routing_version",
    "reason": "reason", "resent": "resent",
}  # fmt: skip


def lines_of(
    experiment: Experiment,
    *,
    after: int = 0,
    limit: int | None = None,
    service: str | None = None,
    outcome: str | None = None,
    captured: bool = False,
) -> Iterator[tuple[int, TraceLine]]:
    """(key, trace) of an experiment's traces, shard by shard, in the order in which they were recorded.

    Args:
        after: only traces with keys above this one.
        outcome: the name of an Outcome in lower case.
        captured: only traces with a capture.
    """
    shards = {
        shard.id: (shard.group_id, shard.group.workload.service, shard.group.workload.spec["request_id_header"])
        for shard in shards_of(experiment)
        if service is None or shard.group.workload.service == service
    }
    rows = Trace.objects.filter(experiment=experiment, id__gt=after).order_by("id")
    if service is not None:
        rows = rows.filter(shard__in=list(shards))
    if outcome is not None:
        rows = rows.filter(outcome=Outcome[outcome.upper()])
    if captured:
        rows = rows.filter(id__in=Capture.objects.filter(experiment=experiment, id__gt=after).order_by().values("id"))
    columns = rows.values_list("id", "shard_id", "client", "sequence", *_FACTS.values())
    found = columns if limit is None else columns[:limit]
    for key, shard, client, sequence, *values in found.iterator(_CHUNK):
        group_id, name, header = shards[shard]
        facts = dict(zip(_FACTS, values, strict=True))
        yield key, trace_line(group_id, client, sequence, header, service=name, exp_id=experiment.id, **facts)


def captures_of(keys: Iterable[int]) -> dict[int, Capture]:
    """The captures of the traces with these keys, by key."""
    return Capture.objects.in_bulk(list(keys))
