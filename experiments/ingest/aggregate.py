"""The per-second statistics of a batch, and how they are added to its shard's: read, merged and written back.

`add` is right only in a transaction that holds the lock on the shard's row, as store.py's does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from django.db import connection

from experiments.analysis.histogram import Histogram
from experiments.ingest.received import DURATIONS, Integers, ReceivedBatch
from experiments.models import SecondStats
from loadgen.protocol.batch import NO_HOST, NO_TIME
from loadgen.protocol.outcomes import FIRST_NOT_SENT, Outcome

NS = 1_000_000_000
HISTOGRAMS = ("response_time", "service_time", "lateness", "connection_wait")
COUNTS = ("arrivals", "sent", "completed", "size")
_WRITTEN = [*COUNTS, "outcomes", "statuses", "hosts", "routed", *HISTOGRAMS]
_KEY = ["experiment", "shard", "second", "workload", "traced"]

Seconds = dict[int, dict[str, Any]]  # by second of the broker's clock: fields of SecondStats

_EMPTY = Histogram()
_EMPTY_BYTES = _EMPTY.to_bytes()


def add(fresh: Seconds, shard_id: int, experiment_id: str, workload: int, *, traced: bool) -> None:
    """Adds a batch's statistics to the SecondStats of the seconds that its rows were intended for."""
    stored = SecondStats.objects.filter(
        experiment=experiment_id,
        shard=shard_id,
        workload=workload,
        traced=traced,
        second__range=(min(fresh), max(fresh)),
    ).order_by()  # the model's own order joins two tables
    there = {row["second"]: row for row in stored.values("second", *_WRITTEN)}
    rows = []
    for second, added in fresh.items():
        values = merged(there[second], added) if second in there else added
        rows.append(
            SecondStats(
                experiment_id=experiment_id,
                shard_id=shard_id,
                workload=workload,
                second=second,
                traced=traced,
                **{name: values[name] for name in _WRITTEN if name not in HISTOGRAMS},
                **{name: _stored(values[name]) for name in HISTOGRAMS},
            )
        )
    target = _KEY if connection.features.supports_update_conflicts_with_target else None
    SecondStats.objects.bulk_create(
        rows, batch_size=500, update_conflicts=True, update_fields=_WRITTEN, unique_fields=target
    )


def merged(stored: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """A stored second and new values of it, added up."""
    return {
        **{name: stored[name] + added[name] for name in COUNTS},
        **{name: _sum(stored[name], added[name]) for name in ("outcomes", "statuses")},
        **{name: _sums(stored[name], added[name]) for name in ("hosts", "routed")},
        **{name: Histogram.merged([stored[name], added[name]]) for name in HISTOGRAMS},
    }


def seconds_of(batch: ReceivedBatch) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each second that the batch has arrivals of, and their statistics: items of Seconds."""
    if not batch.header.rows:
        return
    second = (batch.columns["intended_ns"] + batch.header.epoch_broker_ns) // NS
    order = np.argsort(second, kind="stable")
    present, starts = np.unique(second[order], return_index=True)
    columns = {name: column[order] for name, column in batch.columns.items()}
    for value, start, stop in zip(present.tolist(), starts, [*starts[1:], len(order)], strict=True):
        rows = {name: column[start:stop] for name, column in columns.items()}
        routed = {} if batch.header.traced else _routed(rows, batch.header.hosts)
        yield value, {**_statistics(rows, batch.header.hosts), "routed": routed}


def _stored(histogram: Histogram) -> bytes:
    return _EMPTY_BYTES if histogram is _EMPTY else histogram.to_bytes()


def _statistics(rows: dict[str, Integers], hosts: list[str]) -> dict[str, Any]:
    outcome, host = rows["outcome"], rows["host"]
    if (outcome == Outcome.CUT).all():
        # A plan that is stopped early can leave days of these, second by second.
        return _of_cut(len(outcome))
    sent, completed = outcome < FIRST_NOT_SENT, outcome == Outcome.COMPLETED
    routed = host != NO_HOST
    lateness, connection_wait, service_time = (rows[name] for name in DURATIONS)
    reached = (outcome != Outcome.CUT) & (lateness != NO_TIME)
    answered = completed & (service_time != NO_TIME)
    sent_by_host = np.bincount(host[routed & sent], minlength=len(hosts))
    completed_by_host = np.bincount(host[routed & completed], minlength=len(hosts))
    return {
        "arrivals": len(outcome),
        "sent": int(sent.sum()),
        "completed": int(completed.sum()),
        "outcomes": _counted(outcome),
        "statuses": _counted(rows["status"][completed]),
        "hosts": {
            name: {"sent": int(sent_by_host[index]), "completed": int(completed_by_host[index])}
            for index, name in enumerate(hosts)
            if sent_by_host[index]
        },
        "size": int(rows["size"].sum()),
        "response_time": Histogram.of((lateness + connection_wait + service_time)[answered]),
        "service_time": Histogram.of(service_time[answered]),
        "lateness": Histogram.of(lateness[reached]),
        "connection_wait": Histogram.of(connection_wait[sent & (connection_wait != NO_TIME)]),
    }


def _routed(rows: dict[str, Integers], hosts: list[str]) -> dict[str, dict[str, int]]:
    """Routing version → host → arrivals that were routed there."""
    known = rows["host"] != NO_HOST
    host, version = rows["host"][known], rows["routing_version"][known]
    found = {}
    for value in np.unique(version).tolist():
        counts = np.bincount(host[version == value], minlength=len(hosts)).tolist()
        found[str(value)] = {name: count for name, count in zip(hosts, counts, strict=True) if count}
    return found


def _of_cut(arrivals: int) -> dict[str, Any]:
    return {
        **dict.fromkeys(COUNTS, 0),
        "arrivals": arrivals,
        "outcomes": {str(Outcome.CUT.value): arrivals},
        "statuses": {},
        "hosts": {},
        **dict.fromkeys(HISTOGRAMS, _EMPTY),
    }


def _sum(stored: dict[str, int], added: dict[str, int]) -> dict[str, int]:
    counts = Counter(stored)
    counts.update(added)
    return dict(counts)


def _sums(stored: dict[str, dict[str, int]], added: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {key: _sum(stored.get(key, {}), added.get(key, {})) for key in {**stored, **added}}


def _counted(values: Integers) -> dict[str, int]:
    present, counts = np.unique(values, return_counts=True)
    return dict(zip(map(str, present.tolist()), counts.tolist(), strict=True))
