"""The per-second statistics of a batch, and their addition to the stored ones of its shard.

`add` reads, merges and writes back: it must be called in a transaction that holds the lock on the shard's row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from django.db import connection

from experiments.analysis.histogram import Histogram
from experiments.ingest.received import Integers, ReceivedBatch, Rows
from experiments.models import SecondStats
from loadgen.protocol.outcomes import FIRST_NOT_SENT, Outcome
from loadgen.protocol.trace_batch import NO_HOST, NO_TIME

NS = 1_000_000_000
_HISTOGRAMS = ("response_time", "service_time", "lateness", "connection_wait")
_KEY = ["experiment", "shard", "second", "workload", "traced"]

_EMPTY = Histogram()
_EMPTY_BYTES = _EMPTY.to_bytes()


@dataclass(frozen=True)
class Statistics:
    """The statistics of one second: the fields of SecondStats."""

    arrivals: int
    sent: int = 0
    completed: int = 0
    size: int = 0
    resent: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    hosts: dict[str, dict[str, int]] = field(default_factory=dict)
    addresses: dict[str, dict[str, int]] = field(default_factory=dict)
    routed: dict[str, dict[str, int]] = field(default_factory=dict)
    response_time: Histogram = _EMPTY
    service_time: Histogram = _EMPTY
    lateness: Histogram = _EMPTY
    connection_wait: Histogram = _EMPTY

    @classmethod
    def from_stored(cls, row: dict[str, Any]) -> Statistics:
        """The statistics in the columns of a stored SecondStats."""
        return cls(**row | {name: Histogram.from_bytes(row[name]) for name in _HISTOGRAMS})

    def to_stored(self) -> dict[str, Any]:
        values = vars(self)
        return values | {
            name: _EMPTY_BYTES if values[name] is _EMPTY else values[name].to_bytes() for name in _HISTOGRAMS
        }

    def merged(self, other: Statistics) -> Statistics:
        """The sum of both."""
        counts = ("arrivals", "sent", "completed", "size", "resent")
        sums: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in counts}
        sums |= {name: Histogram.merged([getattr(self, name), getattr(other, name)]) for name in _HISTOGRAMS}
        return Statistics(
            **sums,
            outcomes=_sum(self.outcomes, other.outcomes),
            reasons=_sum(self.reasons, other.reasons),
            statuses=_sum(self.statuses, other.statuses),
            hosts=_sums(self.hosts, other.hosts),
            addresses=_sums(self.addresses, other.addresses),
            routed=_sums(self.routed, other.routed),
        )


_COLUMNS = [column.name for column in fields(Statistics)]

Seconds = dict[int, Statistics]  # by second of the broker's clock


def add(fresh: Seconds, shard_id: int, experiment_id: str, workload: int, *, traced: bool) -> None:
    """Adds a batch's statistics to the stored ones of the seconds for which its rows were intended."""
    stored = SecondStats.objects.filter(
        experiment=experiment_id,
        shard=shard_id,
        workload=workload,
        traced=traced,
        second__range=(min(fresh), max(fresh)),
    ).order_by()  # the model's default order would join two tables
    present = {second: columns for second, *columns in stored.values_list("second", *_COLUMNS)}
    rows = []
    for second, added in fresh.items():
        total = added
        if second in present:
            total = Statistics.from_stored(dict(zip(_COLUMNS, present[second], strict=True))).merged(added)
        rows.append(
            SecondStats(
                experiment_id=experiment_id,
                shard_id=shard_id,
                workload=workload,
                second=second,
                traced=traced,
                **total.to_stored(),
            )
        )
    target = _KEY if connection.features.supports_update_conflicts_with_target else None
    SecondStats.objects.bulk_create(
        rows, batch_size=500, update_conflicts=True, update_fields=_COLUMNS, unique_fields=target
    )


def seconds_of(batch: ReceivedBatch) -> Iterator[tuple[int, Statistics]]:
    """(second of the broker's clock, its statistics) for each second with arrivals in the batch."""
    if not batch.header.rows:
        return
    second = (batch.rows.intended_ns + batch.header.epoch_broker_ns) // NS
    order = np.argsort(second, kind="stable")
    present, starts = np.unique(second[order], return_index=True)
    sorted_rows = batch.rows.select(order)
    for value, start, stop in zip(present.tolist(), starts, [*starts[1:], len(order)], strict=True):
        yield value, _statistics(sorted_rows.select(slice(start, stop)), batch)


def _statistics(rows: Rows, batch: ReceivedBatch) -> Statistics:
    outcome, host = rows.outcome, rows.host
    hosts, traced = batch.header.hosts, batch.header.traced
    if (outcome == Outcome.CUT).all():
        # Faster: a plan that is stopped early may have days of cut arrivals.
        return Statistics(
            arrivals=len(outcome),
            outcomes={str(Outcome.CUT.value): len(outcome)},
            routed={} if traced else _routed(rows, hosts),
        )
    sent, completed = outcome < FIRST_NOT_SENT, outcome == Outcome.COMPLETED
    has_host = host != NO_HOST
    reached = (outcome != Outcome.CUT) & (rows.lateness_ns != NO_TIME)
    answered = completed & (rows.service_time_ns != NO_TIME)
    sent_by_host = np.bincount(host[has_host & sent], minlength=len(hosts))
    completed_by_host = np.bincount(host[has_host & completed], minlength=len(hosts))
    response_time_ns = rows.lateness_ns + rows.connection_wait_ns + rows.service_time_ns
    return Statistics(
        arrivals=len(outcome),
        sent=int(sent.sum()),
        completed=int(completed.sum()),
        size=int(rows.size.sum()),
        resent=int(rows.resent.sum()),
        outcomes=_counted(outcome),
        reasons=_counted(rows.reason[rows.reason > 0]),
        statuses=_counted(rows.status[completed]),
        hosts=_by_host(hosts, {"sent": sent_by_host.tolist(), "completed": completed_by_host.tolist()}),
        addresses=_by_address(hosts, batch.addresses, sent_by_host.tolist()),
        routed={} if traced else _routed(rows, hosts),
        response_time=Histogram.of(response_time_ns[answered]),
        service_time=Histogram.of(rows.service_time_ns[answered]),
        lateness=Histogram.of(rows.lateness_ns[reached]),
        connection_wait=Histogram.of(rows.connection_wait_ns[sent & (rows.connection_wait_ns != NO_TIME)]),
    )


def _routed(rows: Rows, hosts: list[str]) -> dict[str, dict[str, int]]:
    """Routing version → host → number of arrivals routed to it."""
    known = rows.host != NO_HOST
    host, version = rows.host[known], rows.routing_version[known]
    found = {}
    for value in np.unique(version).tolist():
        counts = np.bincount(host[version == value], minlength=len(hosts)).tolist()
        found[str(value)] = {name: of["sent"] for name, of in _by_host(hosts, {"sent": counts}).items()}
    return found


def _by_host(hosts: list[str], counts: dict[str, list[int]]) -> dict[str, dict[str, int]]:
    """Host → name → the sum of its counts over all of its addresses, for hosts with a count of the first name."""
    found: dict[str, dict[str, int]] = {}
    first = next(iter(counts.values()))
    for index, host in enumerate(hosts):
        if first[index]:
            found[host] = _sum(found.get(host, {}), {name: values[index] for name, values in counts.items()})
    return found


def _by_address(hosts: list[str], addresses: list[str], sent: list[int]) -> dict[str, dict[str, int]]:
    """Host → address → requests sent there, for hosts with a name."""
    found: dict[str, dict[str, int]] = {}
    for host, address, count in zip(hosts, addresses, sent, strict=True):
        if address and count:
            found.setdefault(host, {})[address] = count
    return found


def _sum(stored: dict[str, int], added: dict[str, int]) -> dict[str, int]:
    counts = Counter(stored)
    counts.update(added)
    return dict(counts)


def _sums(stored: dict[str, dict[str, int]], added: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {key: _sum(stored.get(key, {}), added.get(key, {})) for key in {**stored, **added}}


def _counted(values: Integers) -> dict[str, int]:
    """Value → its number of occurrences."""
    present, counts = np.unique(values, return_counts=True)
    return dict(zip(map(str, present.tolist()), counts.tolist(), strict=True))
