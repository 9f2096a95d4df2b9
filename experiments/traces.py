"""Traces as lines: what an experiment's rows say, with the names that they are known by outside.

The columns are those of a worker's own trace log (loadgen/trace_log.py), the original's first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from experiments.models import Experiment, Trace
from experiments.recorded import shards_of
from loadgen.messages import REQUEST_ID_HEADER, Outcome, request_id

_CHUNK = 2000


class TraceLine(NamedTuple):
    """A trace. Times are ns in the broker's clock; None: that never happened."""

    request_id: str
    client: str
    service: str
    created: int  # when it was intended
    sent: int | None
    done: int | None
    status: int | None
    server: str
    exp_id: str
    dispatched: int | None
    outcome: str
    size: int
    routing_version: int


COLUMNS = TraceLine._fields
TIMES = ("created", "sent", "done", "dispatched")


def lines_of(
    experiment: Experiment,
    *,
    after: int = 0,
    limit: int | None = None,
    service: str | None = None,
    outcome: str | None = None,
) -> Iterator[tuple[int, TraceLine]]:
    """(key, trace) of an experiment's traces, shard by shard, as they were recorded.

    Args:
        after: the key of the last one that is known; 0: from the first on.
        outcome: the name of an Outcome in lower case.
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
    columns = rows.values_list(
        "id", "shard_id", "client", "sequence", "intended_ns", "sent_ns", "done_ns", "status", "host", "dispatched_ns",
        "outcome", "size", "routing_version",
    )  # fmt: skip
    found = columns if limit is None else columns[:limit]
    for (
        key,
        shard,
        client,
        sequence,
        created,
        sent,
        done,
        status,
        host,
        dispatched,
        code,
        size,
        version,
    ) in found.iterator(_CHUNK):
        group_id, name, header = shards[shard]
        yield (
            key,
            TraceLine(
                # Without ids on the wire the arrival has its name all the same.
                request_id(group_id, client, sequence, header or REQUEST_ID_HEADER),
                f"{group_id}.{client}",
                name,
                created,
                sent,
                done,
                status,
                host,
                experiment.id,
                dispatched,
                Outcome(code).name.lower(),
                size,
                version,
            ),
        )
