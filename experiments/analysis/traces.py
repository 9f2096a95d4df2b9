"""Traces of an experiment as lines with the public column names.

The columns are those of a worker's trace log: the original Galileo's first, then ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from experiments.analysis.shard_scope import shards_of
from experiments.models import Capture, Experiment, Trace
from loadgen.protocol.messages import WorkloadSpec
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.trace_line import TraceLine, trace_line

_ROWS_PER_QUERY = 2000

COLUMNS = TraceLine._fields
TIMES = ("created", "sent", "done", "dispatched")
_FACTS = {  # public name → column
    "created": "intended_ns", "sent": "sent_ns", "done": "done_ns", "status": "status", "server": "host",
    "dispatched": "dispatched_ns", "outcome": "outcome", "size": "size", "routing_version": "routing_version",
    "reason": "reason", "resent": "resent", "address": "address",
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

    Each query reads at most _ROWS_PER_QUERY rows by the key, so that any number of traces takes a bounded amount of
    memory: a single one would hold all rows in the memory of some databases' drivers, and a transaction for as long as
    the reader takes.

    Args:
        after: only traces with keys above this one.
        outcome: the name of an Outcome in lower case.
        captured: only traces with a capture.
    """
    shards = _shards(experiment)
    rows = Trace.objects.filter(experiment=experiment).order_by("id")
    if service is not None:
        rows = rows.filter(shard__in=[key for key, shard in shards.items() if shard.service == service])
    if outcome is not None:
        rows = rows.filter(outcome=Outcome[outcome.upper()])
    if captured:
        rows = rows.filter(id__in=Capture.objects.filter(experiment=experiment, id__gt=after).order_by().values("id"))
    columns = rows.values_list("id", "shard_id", "client", "sequence", *_FACTS.values())
    left, size = limit, _ROWS_PER_QUERY
    while size == _ROWS_PER_QUERY:
        found = columns.filter(id__gt=after)[: size if left is None else min(left, size)]
        size = 0
        for key, shard, client, sequence, *values in found:
            if shard not in shards:  # of an interactive group that was spawned meanwhile
                shards |= _shards(experiment)
            if shard not in shards:
                return  # the experiment was deleted meanwhile
            facts = dict(zip(_FACTS, values, strict=True))
            each = shards[shard]
            ids = each.request_id_header, each.ids_version
            line = trace_line(
                each.group_id, client, sequence, *ids, service=each.service, exp_id=experiment.id, **facts
            )
            yield key, line
            after, size = key, size + 1
        left = None if left is None else left - size


class _Shard(NamedTuple):
    group_id: str
    service: str
    request_id_header: str
    ids_version: int


def _shards(experiment: Experiment) -> dict[int, _Shard]:
    shards = {}
    for shard in shards_of(experiment):
        spec = WorkloadSpec(**shard.group.workload.spec)
        shards[shard.id] = _Shard(shard.group_id, spec.service, spec.request_id_header, spec.ids_version)
    return shards


def captures_of(keys: Iterable[int]) -> dict[int, Capture]:
    """The captures of the traces with these keys, by key."""
    return Capture.objects.in_bulk(list(keys))
