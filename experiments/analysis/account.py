"""The account: every planned arrival has exactly one row with one outcome, or is counted as missing or lost.

Untraced arrivals have no rows: their number comes from the batches that held them, and their outcomes from the
per-second statistics. All counts are compared with the shards' own counters.

The closed model plans no arrivals: there, the requests that the shards started count as planned. How many requests a
lost shard had started beyond its rows is unknown.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Sum
from django.db.models.functions import Coalesce

from experiments.analysis.shard_scope import is_unplanned, planned_of, seconds_of, shards_of
from experiments.models import Batch, Experiment, SecondStats, Shard, ShardStatus, Trace
from loadgen.protocol.outcomes import FIRST_NOT_SENT, Outcome, account_line

LINES = ("completed", "errors", "dropped", "late", "connect_failed", "cut")


@dataclass(frozen=True)
class ShardAccount:
    """One shard's part of the account. All counts include untraced arrivals."""

    name: str
    status: str
    planned: int
    totals: dict[str, int] | None  # the shard's own Counters; None: its last batch has not arrived
    batch_rows: int  # in the batches of its present attempt
    earlier_rows: int  # in the batches of the attempts before
    outcomes: dict[int, int]  # rows by Outcome code
    is_closed: bool = False
    requests_planned: int | None = None  # closed model with requests_per_client; else None
    workload: int = 0  # its index

    @property
    def rows(self) -> int:
        return sum(self.outcomes.values())

    @property
    def broke_off(self) -> bool:
        """Whether arrivals may lack rows, because the shard was lost, failed, restarted, or sent no last batch."""
        return self.totals is None or self.restarted or self.status in (ShardStatus.LOST, ShardStatus.FAILED)

    @property
    def losses_unknown(self) -> bool:
        """Whether an unknown number of its requests may lack rows."""
        return self.is_closed and (self.totals is None or self.restarted)

    @property
    def not_made(self) -> int:
        """Requests of `requests_per_client` that its clients did not start."""
        return max(0, self.requests_planned - self.planned) if self.requests_planned is not None else 0

    @property
    def restarted(self) -> bool:
        """Whether an attempt before the present one had arrivals."""
        return self.earlier_rows > 0 or self.skipped > 0

    @property
    def skipped(self) -> int:
        """Arrivals whose time had passed when its present attempt took over."""
        return self.totals["skipped"] if self.totals else 0

    @property
    def missing(self) -> int:
        """Rows that its totals count and the database lacks."""
        return max(0, self.totals["rows"] - self.batch_rows) if self.totals else 0

    @property
    def cut_without_row(self) -> int:
        """Arrivals of a stopped plan that got no rows, because too many were left."""
        if not self.totals or not self.totals["cut_short"]:
            return 0
        return max(0, self.planned - self.totals["planned"] - self.skipped)

    @property
    def lost(self) -> int:
        """Planned arrivals that will never have a row, because the shard broke off."""
        known = self.rows + self.missing + self.cut_without_row
        return max(0, self.planned - known) if self.broke_off else 0

    @property
    def without_row(self) -> int:
        """Arrivals that the database has no row of, and that are not untraced either."""
        return self.missing + self.cut_without_row + self.lost

    def line(self, name: str) -> int:
        return sum(count for outcome, count in self.outcomes.items() if account_line(outcome) == name)

    def contradictions(self) -> list[str]:
        """A sentence for each difference between the shard's own counters, its rows and the plan."""
        found: list[str] = []
        totals = self.totals
        if totals is None or self.status in (ShardStatus.LOST, ShardStatus.FAILED):
            return found
        if self.requests_planned is not None and self.planned > self.requests_planned:
            found.append(
                f"shard {self.name} started {self.planned:,} requests, but requests_per_client allows its clients "
                f"{self.requests_planned:,}"
            )
        if not self.is_closed and totals["planned"] + self.skipped + self.cut_without_row != self.planned:
            skipped = f" and skipped {self.skipped:,}" if self.skipped else ""
            found.append(
                f"shard {self.name} planned {totals['planned']:,} arrivals{skipped}, but the plan gives it "
                f"{self.planned:,}"
            )
        if self.restarted:
            return found
        if totals["rows"] < self.rows:
            found.append(
                f"shard {self.name} recorded {totals['rows']:,} rows, but the database holds {self.rows:,} of its rows"
            )
        if not self.missing:
            found += [
                f"shard {self.name} counted {totals[name]:,} as {name.replace('_', ' ')}, "
                f"but {self.line(name):,} of its rows are"
                for name in LINES
                if totals[name] != self.line(name)
            ]
        return found


@dataclass(frozen=True)
class Account:
    """The account of an experiment, and the counts from other sources that it is compared with."""

    planned: int
    rows: int
    untraced: int  # arrivals without rows, counted by the batches that held them
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
    not_made: int  # requests of requests_per_client that the clients did not start
    missing: int
    stored: dict[str, int]  # arrivals, sent and completed, by the rows
    sent_times: int  # rows with a sending time
    distinct: int  # different (group, client, sequence)
    batch_rows: int  # rows in the stored traced batches
    aggregates: dict[str, int]  # traced arrivals, sent and completed, by the per-second statistics
    untraced_aggregates: int  # untraced arrivals, by the per-second statistics
    shards: list[ShardAccount] = field(repr=False)

    @property
    def not_sent(self) -> int:
        return self.rows + self.untraced - self.sent + self.cut_without_row

    @property
    def complete(self) -> bool:
        """Whether the account closes, and every planned arrival has a row, is untraced, or was cut without a row."""
        is_whole = self.rows + self.untraced + self.cut_without_row == self.planned
        return is_whole and not self.losses_unknown and not self.contradictions()

    def contradictions(self) -> list[str]:
        """A sentence for each sum that is wrong. Missing and lost arrivals are lines of the account, not errors."""
        wrong = []
        found = self.rows + self.untraced + self.missing + self.lost + self.cut_without_row
        if self.planned != found:
            wrong.append(
                f"{self.planned:,} arrivals were planned, but rows, untraced, missing, lost and cut without a row "
                f"add up to {found:,}"
            )
        if self.distinct != self.rows:
            wrong.append(f"{self.rows:,} rows name only {self.distinct:,} different arrivals: some were sent twice")
        if self.sent_times != (sent := self.stored["sent"]):
            wrong.append(f"{sent:,} rows were sent by their outcome, but {self.sent_times:,} have a sending time")
        if self.batch_rows != self.rows:
            wrong.append(f"the stored batches held {self.batch_rows:,} rows, but the database holds {self.rows:,}")
        for name, count in self.stored.items():
            if self.aggregates[name] != count:
                wrong.append(f"the statistics count {self.aggregates[name]:,} {name}, but the rows {count:,}")
        if self.untraced_aggregates != self.untraced:
            wrong.append(
                f"the stored batches held {self.untraced:,} untraced arrivals, but the statistics count "
                f"{self.untraced_aggregates:,}"
            )
        return wrong + [sentence for shard in self.shards for sentence in shard.contradictions()]

    def to_dict(self) -> dict[str, Any]:
        """The account as JSON, with its contradictions and without the shards."""
        lines = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "shards"}
        derived = {"not_sent": self.not_sent, "closes": self.complete, "contradictions": self.contradictions()}
        return lines | derived


def account_of(experiment: Experiment) -> Account:
    """The account of an experiment by the present state of the database. Reads each of its rows a few times."""
    shards = shards_of(experiment)
    traces = Trace.objects.filter(experiment=experiment).order_by()
    stored: Counter[int] = Counter()
    by_shard: dict[int, Counter[int]] = {}
    sent_times = 0
    counted = traces.values_list("shard_id", "outcome").annotate(Count("id"), Count("sent_ns"))
    for shard_id, outcome, rows, written in counted:
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
    names = ("planned", "cut_without_row", "lost", "losses_unknown", "not_made", "missing")
    sums = {name: sum(getattr(shard, name) for shard in accounts) for name in names}
    return Account(
        **sums,
        rows=stored.total(),
        untraced=batch_rows[False],
        sent=_sent(total),
        completed=total[Outcome.COMPLETED],
        errors=_by_kind(total, "errors"),
        dropped=total[Outcome.DROPPED],
        late=total[Outcome.LATE],
        connect_failed=_by_kind(total, "connect_failed"),
        cut=total[Outcome.CUT] + sums["cut_without_row"],
        stored={"arrivals": stored.total(), "sent": _sent(stored), "completed": stored[Outcome.COMPLETED]},
        sent_times=sent_times,
        distinct=_distinct(experiment, shards),
        batch_rows=batch_rows[True],
        aggregates=_aggregates(experiment),
        untraced_aggregates=sum(counts.total() for counts in untraced.values()),
        shards=accounts,
    )


def _shard_account(shard: Shard, batch_rows: dict[tuple[int, int], int], outcomes: dict[int, int]) -> ShardAccount:
    """A shard's part; `batch_rows` holds the rows of batches by (shard, attempt)."""
    present = batch_rows.get((shard.id, shard.attempt), 0)
    earlier = sum(batch_rows.get((shard.id, attempt), 0) for attempt in range(1, shard.attempt))
    requests_planned = None
    if is_closed := is_unplanned(shard):
        planned = earlier + (shard.totals["planned"] if shard.totals else present)
        per_client = shard.group.workload.spec["requests_per_client"]
        requests_planned = per_client and per_client * sum(len(range(*bounds)) for bounds in shard.clients)
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
        requests_planned=requests_planned,
        workload=shard.group.workload.index,
    )


def _sent(outcomes: Counter[int]) -> int:
    return sum(count for outcome, count in outcomes.items() if outcome < FIRST_NOT_SENT)


def _untraced(experiment: Experiment) -> dict[int, Counter[int]]:
    """Outcomes of untraced arrivals, by shard."""
    found: dict[int, Counter[int]] = {}
    for shard_id, outcomes in seconds_of(experiment, "shard_id", "outcomes", traced=False):
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
    """The number of different (group, client, sequence) among the rows."""
    groups: dict[str, list[int]] = {}
    for shard in shards:
        groups.setdefault(shard.group_id, []).append(shard.id)
    arrivals = Trace.objects.filter(experiment=experiment).order_by().values("client", "sequence").distinct()
    return sum(arrivals.filter(shard_id__in=members).count() for members in groups.values())


def _aggregates(experiment: Experiment) -> dict[str, int]:
    """Traced arrivals, sent and completed, by the per-second statistics."""
    sums = SecondStats.objects.filter(experiment=experiment, traced=True).aggregate(
        **{name: Coalesce(Sum(name), 0) for name in ("arrivals", "sent", "completed")}
    )
    return {name: int(value) for name, value in sums.items()}
