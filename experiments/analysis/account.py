"""The account: every planned arrival ends as exactly one row with one outcome, or is named as missing or lost.

What was not traced has no row: how many there are is taken from the batches that held them, and their outcomes from the
statistics; both are held against what the shards themselves have counted.

The closed model plans no arrivals: there, what the shards started counts as planned, and what a shard that broke off
had started beyond its rows is unknown.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Sum
from django.db.models.functions import Coalesce

from experiments.analysis.shard_account import ShardAccount, contradictions
from experiments.analysis.shard_parts import shards_of
from experiments.models import Batch, Experiment, SecondStats, Shard, Trace
from loadgen.arrivals.pacer import Pacer, build_pacer
from loadgen.arrivals.schedule import Schedule
from loadgen.protocol.messages import OPEN, WorkloadSpec
from loadgen.protocol.outcomes import FIRST_NOT_SENT, Outcome, account_line

NS = 1_000_000_000


@dataclass(frozen=True)
class Account:
    """The account of an experiment, from its rows and from the statistics of what was not traced; the rest of the
    fields is what these are held against."""

    planned: int
    rows: int
    untraced: int  # without a row, by the batches that held them
    sent: int
    completed: int
    errors: dict[str, int]
    dropped: int
    late: int
    connect_failed: dict[str, int]
    cut: int  # with and without a row
    cut_without_row: int
    lost: int
    losses_unknown: int  # shards of the closed model that broke off
    not_made: int  # requests that the clients of the closed model were to make, and did not start
    missing: int
    stored: dict[str, int]  # arrivals, sent and completed of the rows
    sent_times: int  # rows that have the time at which the request was written
    distinct: int  # different (group, client, sequence)
    batch_rows: int  # rows that the stored batches held, of those that were traced
    aggregates: dict[str, int]  # arrivals, sent and completed of the per-second statistics, of what was traced
    untraced_aggregates: int  # arrivals of what was not
    shards: list[ShardAccount] = field(repr=False)

    @property
    def not_sent(self) -> int:
        return self.rows + self.untraced - self.sent + self.cut_without_row

    @property
    def complete(self) -> bool:
        """Whether it closes with one row for every planned arrival, but for those not traced or cut without one."""
        is_whole = self.rows + self.untraced + self.cut_without_row == self.planned
        return is_whole and not self.losses_unknown and not self.closes()

    def closes(self) -> list[str]:
        """A sentence for each thing that does not add up; missing and lost arrivals are lines of the account."""
        wrong = []
        found = self.rows + self.untraced + self.missing + self.lost + self.cut_without_row
        if self.planned != found:
            wrong.append(
                f"{self.planned:,} arrivals were planned, but rows, not traced, missing, lost and cut without a row "
                f"add up to {found:,}"
            )
        if self.distinct != self.rows:
            wrong.append(f"{self.rows:,} rows name only {self.distinct:,} different arrivals: some were sent twice")
        sent = self.stored["sent"]
        if self.sent_times != sent:
            wrong.append(f"{sent:,} rows were sent by their outcome, but {self.sent_times:,} have a sending time")
        if self.batch_rows != self.rows:
            wrong.append(f"the stored batches held {self.batch_rows:,} rows, but the database holds {self.rows:,}")
        for name, count in self.stored.items():
            if self.aggregates[name] != count:
                wrong.append(f"the statistics count {self.aggregates[name]:,} {name}, but the rows {count:,}")
        if self.untraced_aggregates != self.untraced:
            wrong.append(
                f"the stored batches held {self.untraced:,} arrivals that were not traced, but the statistics count "
                f"{self.untraced_aggregates:,}"
            )
        for shard in self.shards:
            wrong += contradictions(shard)
        return wrong

    def to_dict(self) -> dict[str, Any]:
        """The lines as JSON, with what does not add up; without the shards."""
        lines = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "shards"}
        return {**lines, "not_sent": self.not_sent, "closes": self.complete, "contradictions": self.closes()}


def schedule_of(spec: WorkloadSpec) -> Schedule:
    """The schedule that the engine runs for this workload."""
    return Schedule([(round(duration_s * NS), rate_rps) for duration_s, rate_rps in spec.schedule])


def is_unplanned(shard: Shard) -> bool:
    """Whether no arrivals are planned for a shard, because they follow from responses, or from commands."""
    return bool(shard.group.workload.spec["model"] != OPEN)


def pacer_of(shard: Shard) -> Pacer:
    """The arrivals of a shard's clients, computed from the plan as the shard itself computes them."""
    spec = WorkloadSpec(**shard.group.workload.spec)
    return build_pacer(
        spec.arrival_process,
        schedule_of(spec),
        [client for bounds in shard.clients for client in range(*bounds)],
        shard.group.total_clients,
        shard.group.random_seed,
        spec.index,
        spec.arrival_parameters,
    )


def planned_of(shard: Shard) -> int:
    """How many arrivals the plan has for a shard: at once, or about half a microsecond for each random one."""
    return pacer_of(shard).count()


def account_of(experiment: Experiment) -> Account:
    """The account of an experiment as the database has it now. It reads each of the experiment's rows a few times."""
    shards = shards_of(experiment)
    traces = Trace.objects.filter(experiment=experiment).order_by()
    stored: Counter[int] = Counter()
    by_shard: dict[int, Counter[int]] = {}
    sent_times = 0
    for shard_id, outcome, rows, written in traces.values_list("shard_id", "outcome").annotate(
        Count("id"), Count("sent_ns")
    ):
        by_shard.setdefault(shard_id, Counter())[outcome] = rows
        stored[outcome] += rows
        sent_times += written
    untraced = _untraced(experiment)
    for shard_id, counts in untraced.items():
        by_shard.setdefault(shard_id, Counter()).update(counts)
    total = sum(by_shard.values(), Counter())
    batch_rows: Counter[bool] = Counter()
    by_attempt: Counter[tuple[int, int]] = Counter()
    batches = Batch.objects.filter(experiment=experiment).order_by()
    for shard_id, attempt, traced, rows in batches.values_list("shard_id", "attempt", "traced").annotate(Sum("rows")):
        batch_rows[traced] += rows
        by_attempt[shard_id, attempt] += rows
    accounts = [_shard_account(shard, by_attempt, by_shard.get(shard.id, {})) for shard in shards]
    return Account(
        planned=sum(shard.planned for shard in accounts),
        rows=stored.total(),
        untraced=batch_rows[False],
        sent=_sent(total),
        completed=total[Outcome.COMPLETED],
        errors=_by_kind(total, "errors"),
        dropped=total[Outcome.DROPPED],
        late=total[Outcome.LATE],
        connect_failed=_by_kind(total, "connect_failed"),
        cut=total[Outcome.CUT] + sum(shard.cut_without_row for shard in accounts),
        cut_without_row=sum(shard.cut_without_row for shard in accounts),
        lost=sum(shard.lost for shard in accounts),
        losses_unknown=sum(shard.losses_unknown for shard in accounts),
        not_made=sum(shard.not_made for shard in accounts),
        missing=sum(shard.missing for shard in accounts),
        stored={"arrivals": stored.total(), "sent": _sent(stored), "completed": stored[Outcome.COMPLETED]},
        sent_times=sent_times,
        distinct=_distinct(experiment, shards),
        batch_rows=batch_rows[True],
        aggregates=_aggregates(experiment),
        untraced_aggregates=sum(counts.total() for counts in untraced.values()),
        shards=accounts,
    )


def _shard_account(shard: Shard, batch_rows: dict[tuple[int, int], int], outcomes: dict[int, int]) -> ShardAccount:
    """A shard's part; `batch_rows` are the rows of batches by (shard, attempt)."""
    present = batch_rows.get((shard.id, shard.attempt), 0)
    earlier = sum(
        rows for (owner, attempt), rows in batch_rows.items() if owner == shard.id and attempt < shard.attempt
    )
    asked = None
    if is_closed := is_unplanned(shard):
        planned = earlier + (shard.totals["planned"] if shard.totals else present)
        per_client = shard.group.workload.spec["requests_per_client"]
        asked = per_client and per_client * sum(len(range(*bounds)) for bounds in shard.clients)
    else:
        planned = shard.planned if shard.planned is not None else planned_of(shard)
    return ShardAccount(
        name=str(shard),
        status=shard.status,
        planned=planned,
        totals=shard.totals,
        batch_rows=present,
        earlier_rows=earlier,
        outcomes=outcomes,
        is_closed=is_closed,
        asked=asked,
    )


def _sent(outcomes: Counter[int]) -> int:
    return sum(count for outcome, count in outcomes.items() if outcome < FIRST_NOT_SENT)


def _untraced(experiment: Experiment) -> dict[int, Counter[int]]:
    """Outcomes of what was not traced, by shard."""
    found: dict[int, Counter[int]] = {}
    seconds = SecondStats.objects.filter(experiment=experiment, traced=False).order_by()
    for shard_id, outcomes in seconds.values_list("shard_id", "outcomes").iterator():
        counts = found.setdefault(shard_id, Counter())
        for outcome, count in outcomes.items():
            counts[int(outcome)] += count
    return found


def _by_kind(outcomes: Counter[int], line: str) -> dict[str, int]:
    return {
        Outcome(outcome).name.lower(): count
        for outcome, count in sorted(outcomes.items())
        if count and account_line(outcome) == line
    }


def _distinct(experiment: Experiment, shards: list[Shard]) -> int:
    groups: dict[str, list[int]] = {}
    for shard in shards:
        groups.setdefault(shard.group_id, []).append(shard.id)
    return sum(
        Trace.objects.filter(experiment=experiment, shard_id__in=members)
        .order_by()
        .values("client", "sequence")
        .distinct()
        .count()
        for members in groups.values()
    )


def _aggregates(experiment: Experiment) -> dict[str, int]:
    sums = SecondStats.objects.filter(experiment=experiment, traced=True).aggregate(
        **{name: Coalesce(Sum(name), 0) for name in ("arrivals", "sent", "completed")}
    )
    return {name: int(value) for name, value in sums.items()}
