"""The summary of an experiment: all figures of its report but those of telemetry and of the target's own log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from experiments.analysis.account import Account, account_of
from experiments.analysis.health import ShardHealth, health_of
from experiments.analysis.histogram import Histogram
from experiments.analysis.host_shares import hosts_of
from experiments.analysis.intervals import intervals_of
from experiments.analysis.node_samples import quotas_of
from experiments.analysis.verdict import LatenessFacts, QuotaFacts, ShardFacts, VerdictFacts, judge
from experiments.models import Event, Experiment, SecondStats, Shard, Worker, Workload
from loadgen.protocol.enums import LoadModel
from loadgen.protocol.outcomes import MalformedReason, Outcome

NS = 1_000_000_000
FORMAT = 3
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
TIMES = ("response_time", "service_time", "connection_wait", "lateness")
# The 99th percentile of fewer arrivals is one of the latest few.
LEAST_FOR_P99 = 100
MAX_EVENTS = 200
# True for the closed model: clients wait for each response, so that a slow target gets fewer requests.
DEPENDENT = "response_times_depend_on_completions"


def summarise(experiment: Experiment) -> dict[str, Any]:
    """The summary of the present state of the database, as JSON. Durations end in `_s`; a missing time is None.

    `verdict` holds status and reasons; `batches` is the number of batches included, so that later ones are noticed.
    """
    batches = experiment.batches.count()
    account = account_of(experiment)
    health = health_of(experiment)
    workloads = _workloads(experiment)
    total = _total(workloads)
    lateness = [*_late_workloads(workloads), *_late_shards(workloads, health)]
    quotas = quotas_of(experiment)
    verdict = judge(_facts(experiment, account, health, total, lateness, quotas))
    return {
        "format": FORMAT,
        "batches": batches,
        "ended_as": _ended_as(experiment),
        "reason": experiment.reason,
        "account": account.to_dict(),
        "intervals": intervals_of(experiment),
        "total": {DEPENDENT: any(part.is_dependent for part in workloads), **total},
        "workloads": [{**part.head(), **_total([part])} for part in workloads],
        "hosts": hosts_of(experiment),
        "workers": _workers(health, quotas),
        "shards": [shard.to_dict() for shard in health],
        "events": _events(experiment),
        "verdict": {
            "status": verdict.status.value,
            "reasons": [{"level": reason.level.value, "sentence": reason.sentence} for reason in verdict.reasons],
        },
    }


def _ended_as(experiment: Experiment) -> str:
    """The status that it ended with, or is about to end with; "" while it is running."""
    return experiment.status if experiment.has_ended else experiment.final_status


@dataclass(frozen=True)
class _WorkloadPart:
    """A workload and the statistics of its seconds."""

    workload: Workload
    rows: list[SecondStats]

    @property
    def is_dependent(self) -> bool:
        return bool(self.workload.spec["model"] == LoadModel.CLOSED)

    @property
    def time_outs(self) -> int:
        return sum(int(row.outcomes.get(str(Outcome.TIMEOUT.value), 0)) for row in self.rows)

    @property
    def limit_ns(self) -> int:
        """The time-out of its requests, as far as the plan gives it."""
        timeout = self.workload.spec["kwargs"].get("timeout")
        limit_s = timeout[1] if isinstance(timeout, list) else timeout
        return round((limit_s or self.workload.spec["request_timeout_s"]) * NS)

    def head(self) -> dict[str, Any]:
        return {
            "workload": self.workload.index,
            "service": self.workload.service,
            "model": self.workload.spec["model"],
            DEPENDENT: self.is_dependent,
        }


def _workloads(experiment: Experiment) -> list[_WorkloadPart]:
    rows: dict[int, list[SecondStats]] = {}
    for row in SecondStats.objects.filter(experiment=experiment).order_by():
        rows.setdefault(row.workload, []).append(row)
    workloads = experiment.workloads.order_by("index")
    return [_WorkloadPart(workload, rows.get(workload.index, [])) for workload in workloads]


def _total(parts: list[_WorkloadPart]) -> dict[str, Any]:
    """The sums of counts and times over the seconds of some workloads."""
    rows = [row for part in parts for row in part.rows]
    outcomes: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for row in rows:
        outcomes.update(row.outcomes)
        statuses.update(row.statuses)
        reasons.update(row.reasons)
    histograms = {name: Histogram.merged(getattr(row, name) for row in rows) for name in TIMES}
    with_timeouts = Histogram.merged([histograms["response_time"]])
    for part in parts:
        with_timeouts.add_equal(part.limit_ns, part.time_outs)
    return {
        **{name: sum(getattr(row, name) for row in rows) for name in ("arrivals", "sent", "completed", "resent")},
        "bytes_received": sum(row.size for row in rows),
        "outcomes": {Outcome(int(code)).name.lower(): outcomes[code] for code in sorted(outcomes, key=int)},
        "malformed": {MalformedReason(int(code)).name.lower(): reasons[code] for code in sorted(reasons, key=int)},
        "statuses": {status: statuses[status] for status in sorted(statuses, key=int)},
        "times": {
            **{name: _times(histogram) for name, histogram in histograms.items()},
            "response_time_with_timeouts": _times(with_timeouts),
        },
    }


def _late_workloads(parts: list[_WorkloadPart]) -> Iterator[LatenessFacts]:
    for part in parts:
        yield _lateness(f"workload {part.workload.index} ({part.workload.service})", part.rows)


def _late_shards(parts: list[_WorkloadPart], health: list[ShardHealth]) -> Iterator[LatenessFacts]:
    rows: dict[int, list[SecondStats]] = {}
    for part in parts:
        for row in part.rows:
            rows.setdefault(row.shard_id, []).append(row)
    for facts in health:
        on_worker = f" on {facts.shard.worker}" if facts.shard.worker else ""
        yield _lateness(f"shard {facts.shard}{on_worker}", rows.get(facts.shard.id, []))


def _lateness(where: str, rows: list[SecondStats]) -> LatenessFacts:
    histogram = Histogram.merged(row.lateness for row in rows)
    p99_ns = histogram.quantile(0.99) if histogram.count >= LEAST_FOR_P99 else None
    return LatenessFacts(where, _seconds(p99_ns))


def _times(histogram: Histogram) -> dict[str, Any]:
    quantiles = {f"{name}_s": _seconds(histogram.quantile(q)) for name, q in QUANTILES}
    max_s = histogram.max_ns / NS if histogram.count else None
    return {"count": histogram.count, "mean_s": _seconds(histogram.mean_ns), **quantiles, "max_s": max_s}


def _seconds(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / NS


def _workers(health: list[ShardHealth], quotas: dict[str, QuotaFacts]) -> list[dict[str, Any]]:
    """Per worker: the worst figures of its shards. Shards that no worker took are left out."""
    by_worker: dict[Worker, list[ShardHealth]] = {}
    for shard in health:
        if shard.shard.worker is not None:
            by_worker.setdefault(shard.shard.worker, []).append(shard)
    figures = ("clock_uncertainty_s", "clock_drift_s", "cpu_peak_share", "wait_share", "wait_peak_share", "max_stall_s")
    return [
        {
            "worker": worker.name,
            "machine": worker.machine,
            "cores": worker.cores,
            "shards": len(shards),
            "others_share": _worst(shards, "others_peak_share"),
            "stolen_share": _worst(shards, "stolen_peak_share"),
            "quota_cores": quotas[worker.name].cores if worker.name in quotas else None,
            "throttled_share": quotas[worker.name].throttled_share if worker.name in quotas else None,
            **{name: _worst(shards, name) for name in figures},
            "descriptor_limit": min(shard.shard.descriptor_limit for shard in shards) or None,
        }
        for worker, shards in sorted(by_worker.items(), key=lambda item: item[0].name)
    ]


def _worst(shards: list[ShardHealth], name: str) -> float | None:
    """The highest of a figure's known values."""
    return max((value for shard in shards if (value := getattr(shard, name)) is not None), default=None)


def _events(experiment: Experiment) -> list[dict[str, Any]]:
    events = Event.objects.filter(experiment=experiment).order_by("timestamp", "id")[:MAX_EVENTS]
    return [
        {
            "timestamp": event.timestamp.timestamp(),
            "offset_s": (event.timestamp - experiment.started_at).total_seconds() if experiment.started_at else None,
            "name": event.name,
            "value": event.value,
        }
        for event in events
    ]


def _facts(
    experiment: Experiment,
    account: Account,
    health: list[ShardHealth],
    total: dict[str, Any],
    lateness: list[LatenessFacts],
    quotas: dict[str, QuotaFacts],
) -> VerdictFacts:
    counts = ("planned", "late", "dropped", "cut", "lost", "not_made", "missing", "untraced")
    return VerdictFacts(
        ended_as=_ended_as(experiment),
        reason=experiment.reason,
        **{name: getattr(account, name) for name in counts},
        no_descriptor=account.connect_failed.get("connect_no_descriptor", 0),
        no_port=account.connect_failed.get("connect_no_port", 0),
        no_route=account.connect_failed.get("no_route", 0),
        contradictions=tuple(account.contradictions()),
        sent=account.sent,
        resent=total["resent"],
        malformed=total["malformed"],
        lateness_p99_s=total["times"]["lateness"]["p99_s"],
        lateness_max_s=total["times"]["lateness"]["max_s"],
        lateness=tuple(lateness),
        shards=tuple(_shard_facts(shard, quotas) for shard in health),
    )


def _max_in_flight(shard: Shard) -> int:
    """The most requests in flight; in the closed model, each of the shard's clients has at most one."""
    if shard.group.workload.spec["model"] == LoadModel.CLOSED:
        return sum(len(range(*bounds)) for bounds in shard.clients)
    return int(shard.group.workload.spec["max_in_flight"])


def _shard_facts(health: ShardHealth, quotas: dict[str, QuotaFacts]) -> ShardFacts:
    shard = health.shard
    same = (
        "failure", "stall", "app", "app_share", "slow_app_share", "pool_wait_share",
        "clock_uncertainty_s", "clock_drift_s",
    )  # fmt: skip
    return ShardFacts(
        name=str(shard),
        worker=shard.worker.name if shard.worker else None,
        max_in_flight=_max_in_flight(shard),
        descriptor_limit=shard.descriptor_limit or None,
        cpu_share=health.cpu_peak_share,
        wait_share=health.wait_peak_share,
        others_share=health.others_peak_share,
        stolen_share=health.stolen_peak_share,
        longest_app_s=health.longest_app_s or 0.0,
        quota=quotas.get(shard.worker.name) if shard.worker else None,
        max_connections=shard.group.workload.spec["max_connections_per_host"],
        **{name: getattr(health, name) for name in same},
    )
