"""The account: every planned arrival ends as exactly one row with one outcome, or is named as missing or lost."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Sum
from django.db.models.functions import Coalesce

from experiments.models import Batch, Experiment, SecondStats, Shard, Trace
from loadgen.messages import FIRST_NOT_SENT, Outcome, WorkloadSpec, account_line
from loadgen.pacer import Pacer, build_pacer
from loadgen.schedule import Schedule

NS = 1_000_000_000
LINES = ("completed", "errors", "dropped", "late", "connect_failed", "cut")


@dataclass(frozen=True)
class ShardAccount:
    """A shard's part.

    `totals` are its own Counters (None: its last batch is not here), `batch_rows` is what the batches of its present
    attempt held, `earlier_rows` those of the attempts before; `outcomes` are the rows by Outcome code.
    """

    name: str
    status: str
    planned: int
    totals: dict[str, int] | None
    batch_rows: int
    earlier_rows: int
    outcomes: dict[int, int]

    @property
    def rows(self) -> int:
        return sum(self.outcomes.values())

    @property
    def broke_off(self) -> bool:
        """Whether arrivals of it may be without a row: it was lost, failed, began again, or never reported its end."""
        return self.totals is None or self.began_again or self.status in (Shard.Status.LOST, Shard.Status.FAILED)

    @property
    def began_again(self) -> bool:
        """Whether its present attempt is not the only one that had arrivals."""
        return self.earlier_rows > 0 or self.skipped > 0

    @property
    def skipped(self) -> int:
        """Arrivals that had passed when its present attempt took over."""
        return self.totals["skipped"] if self.totals else 0

    @property
    def missing(self) -> int:
        """Rows that its totals name and the database lacks."""
        return max(0, self.totals["rows"] - self.batch_rows) if self.totals else 0

    @property
    def cut_without_row(self) -> int:
        """Arrivals of a stopped plan whose rest was too long for a row each."""
        if not self.totals or not self.totals["cut_short"]:
            return 0
        return max(0, self.planned - self.totals["planned"] - self.skipped)

    @property
    def lost(self) -> int:
        """Planned arrivals that no row will tell about, because the shard broke off."""
        known = self.rows + self.missing + self.cut_without_row
        return max(0, self.planned - known) if self.broke_off else 0

    def line(self, name: str) -> int:
        return sum(count for outcome, count in self.outcomes.items() if account_line(outcome) == name)


@dataclass(frozen=True)
class Account:
    """The account of an experiment, from its rows; the rest of the fields is what the rows are held against."""

    planned: int
    rows: int
    sent: int
    completed: int
    errors: dict[str, int]
    dropped: int
    late: int
    connect_failed: dict[str, int]
    cut: int  # with and without a row
    cut_without_row: int
    lost: int
    missing: int
    sent_times: int  # rows that have the time at which the request was written
    distinct: int  # different (group, client, sequence)
    batch_rows: int  # rows that the stored batches held
    aggregates: dict[str, int]  # arrivals, sent and completed of the per-second statistics
    shards: list[ShardAccount] = field(repr=False)

    @property
    def not_sent(self) -> int:
        return self.rows - self.sent + self.cut_without_row

    @property
    def complete(self) -> bool:
        """Whether it closes with one row for every planned arrival, but for those cut without one."""
        return self.rows + self.cut_without_row == self.planned and not self.closes()

    def closes(self) -> list[str]:
        """A sentence for each thing that does not add up; missing and lost arrivals are lines of the account."""
        wrong = []
        found = self.rows + self.missing + self.lost + self.cut_without_row
        if self.planned != found:
            wrong.append(
                f"{self.planned:,} arrivals were planned, but rows, missing, lost and cut without a row add up to "
                f"{found:,}"
            )
        if self.distinct != self.rows:
            wrong.append(f"{self.rows:,} rows name only {self.distinct:,} different arrivals: some were sent twice")
        if self.sent_times != self.sent:
            wrong.append(f"{self.sent:,} rows were sent by their outcome, but {self.sent_times:,} have a sending time")
        if self.batch_rows != self.rows:
            wrong.append(f"the stored batches held {self.batch_rows:,} rows, but the database holds {self.rows:,}")
        for name, count in (("arrivals", self.rows), ("sent", self.sent), ("completed", self.completed)):
            if self.aggregates[name] != count:
                wrong.append(f"the statistics count {self.aggregates[name]:,} {name}, but the rows {count:,}")
        for shard in self.shards:
            wrong += _contradictions(shard)
        return wrong

    def to_dict(self) -> dict[str, Any]:
        """The lines as JSON, with what does not add up; without the shards."""
        lines = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "shards"}
        return {**lines, "not_sent": self.not_sent, "closes": self.complete, "contradictions": self.closes()}


def _contradictions(shard: ShardAccount) -> list[str]:
    wrong: list[str] = []
    totals = shard.totals
    if totals is None or shard.status in (Shard.Status.LOST, Shard.Status.FAILED):
        return wrong
    if totals["planned"] + shard.skipped + shard.cut_without_row != shard.planned:
        skipped = f" and skipped {shard.skipped:,}" if shard.skipped else ""
        wrong.append(
            f"shard {shard.name} planned {totals['planned']:,} arrivals{skipped}, but by the plan it has "
            f"{shard.planned:,}"
        )
    if shard.began_again:
        return wrong
    if totals["rows"] < shard.rows:
        wrong.append(f"shard {shard.name} made {totals['rows']:,} rows, but the database holds {shard.rows:,} of it")
    if not shard.missing:
        for name in LINES:
            if totals[name] != shard.line(name):
                wrong.append(
                    f"shard {shard.name} counted {totals[name]:,} as {name.replace('_', ' ')}, "
                    f"but {shard.line(name):,} of its rows are"
                )
    return wrong


def schedule_of(spec: WorkloadSpec) -> Schedule:
    """The schedule that the engine runs for this workload."""
    return Schedule([(round(duration_s * NS), rate_rps) for duration_s, rate_rps in spec.schedule])


def pacer_of(shard: Shard) -> Pacer:
    """The arrivals of a shard's clients, computed from the plan as the shard itself computes them."""
    spec = WorkloadSpec(**shard.group.workload.spec)
    return build_pacer(
        spec.arrival_process,
        schedule_of(spec),
        [client for bounds in shard.clients for client in range(*bounds)],
        shard.group.total_clients,
        shard.group.experiment.seed,
        spec.index,
    )


def planned_of(shard: Shard) -> int:
    """How many arrivals the plan has for a shard: about a microsecond for each of them."""
    return sum(1 for _ in pacer_of(shard))


def account_of(experiment: Experiment) -> Account:
    """The account of an experiment as the database has it now. It reads each of the experiment's rows a few times."""
    shards = list(
        Shard.objects.filter(group__experiment=experiment).select_related("group__workload", "group__experiment")
    )
    traces = Trace.objects.filter(experiment=experiment).order_by()
    outcomes: dict[int, dict[int, int]] = {}
    sent_times = 0
    for shard_id, outcome, rows, written in traces.values_list("shard_id", "outcome").annotate(
        Count("id"), Count("sent_ns")
    ):
        outcomes.setdefault(shard_id, {})[outcome] = rows
        sent_times += written
    batch_rows = Batch.objects.filter(shard__group__experiment=experiment).order_by()
    by_attempt = {
        (shard_id, attempt): rows
        for shard_id, attempt, rows in batch_rows.values_list("shard_id", "attempt").annotate(Sum("rows"))
    }
    accounts = [
        ShardAccount(
            name=str(shard),
            status=shard.status,
            planned=shard.planned if shard.planned is not None else planned_of(shard),
            totals=shard.totals,
            batch_rows=by_attempt.get((shard.id, shard.attempt), 0),
            earlier_rows=sum(
                rows for (owner, attempt), rows in by_attempt.items() if owner == shard.id and attempt < shard.attempt
            ),
            outcomes=outcomes.get(shard.id, {}),
        )
        for shard in shards
    ]
    total: Counter[int] = Counter()
    for counts in outcomes.values():
        total.update(counts)
    return Account(
        planned=sum(shard.planned for shard in accounts),
        rows=total.total(),
        sent=sum(count for outcome, count in total.items() if outcome < FIRST_NOT_SENT),
        completed=total[Outcome.COMPLETED],
        errors=_by_kind(total, "errors"),
        dropped=total[Outcome.DROPPED],
        late=total[Outcome.LATE],
        connect_failed=_by_kind(total, "connect_failed"),
        cut=total[Outcome.CUT] + sum(shard.cut_without_row for shard in accounts),
        cut_without_row=sum(shard.cut_without_row for shard in accounts),
        lost=sum(shard.lost for shard in accounts),
        missing=sum(shard.missing for shard in accounts),
        sent_times=sent_times,
        distinct=_distinct(experiment, shards),
        batch_rows=sum(by_attempt.values()),
        aggregates=_aggregates(experiment),
        shards=accounts,
    )


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
    sums = SecondStats.objects.filter(experiment=experiment).aggregate(
        **{name: Coalesce(Sum(name), 0) for name in ("arrivals", "sent", "completed")}
    )
    return {name: int(value) for name, value in sums.items()}
