"""The summary of an experiment: all figures of its report but those of telemetry and of the target's own log."""

from __future__ import annotations

from collections import Counter
from typing import Any

from experiments.analysis.account import Account, account_of
from experiments.analysis.health import ShardHealth, health_of
from experiments.analysis.histogram import Histogram
from experiments.analysis.host_shares import hosts_of
from experiments.analysis.intervals import intervals_of
from experiments.analysis.node_samples import quotas_of
from experiments.analysis.verdict import QuotaFacts, ShardFacts, VerdictFacts, judge
from experiments.models import Event, Experiment, SecondStats, Shard, Worker
from loadgen.protocol.enums import LoadModel
from loadgen.protocol.outcomes import Outcome

NS = 1_000_000_000
FORMAT = 2
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
TIMES = ("response_time", "service_time", "connection_wait", "lateness")
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
    total = _total([row for _, rows in workloads for row in rows])
    quotas = quotas_of(experiment)
    verdict = judge(_facts(experiment, account, health, total["times"]["lateness"], quotas))
    return {
        "format": FORMAT,
        "batches": batches,
        "ended_as": _ended_as(experiment),
        "reason": experiment.reason,
        "account": account.to_dict(),
        "intervals": intervals_of(experiment),
        "total": {DEPENDENT: any(head[DEPENDENT] for head, _ in workloads), **total},
        "workloads": [{**head, **_total(rows)} for head, rows in workloads],
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


def _workloads(experiment: Experiment) -> list[tuple[dict[str, Any], list[SecondStats]]]:
    rows: dict[int, list[SecondStats]] = {}
    for row in SecondStats.objects.filter(experiment=experiment).order_by():
        rows.setdefault(row.workload, []).append(row)
    return [
        (
            {
                "workload": workload.index,
                "service": workload.service,
                "model": workload.spec["model"],
                DEPENDENT: workload.spec["model"] == LoadModel.CLOSED,
            },
            rows.get(workload.index, []),
        )
        for workload in experiment.workloads.order_by("index")
    ]


def _total(rows: list[SecondStats]) -> dict[str, Any]:
    """The sums of counts and times over some seconds."""
    outcomes: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    for row in rows:
        outcomes.update(row.outcomes)
        statuses.update(row.statuses)
    return {
        **{name: sum(getattr(row, name) for row in rows) for name in ("arrivals", "sent", "completed")},
        "bytes_received": sum(row.size for row in rows),
        "outcomes": {Outcome(int(code)).name.lower(): outcomes[code] for code in sorted(outcomes, key=int)},
        "statuses": {status: statuses[status] for status in sorted(statuses, key=int)},
        "times": {name: _times(Histogram.merged(getattr(row, name) for row in rows)) for name in TIMES},
    }


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
    figures = ("clock_uncertainty_s", "clock_drift_s", "cpu_peak_share", "wait_share", "max_stall_s")
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
    lateness: dict[str, Any],
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
        lateness_p99_s=lateness["p99_s"],
        lateness_max_s=lateness["max_s"],
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
        "failure", "wait_share", "stall", "app", "app_share", "slow_app_share", "pool_wait_share",
        "clock_uncertainty_s", "clock_drift_s",
    )  # fmt: skip
    return ShardFacts(
        name=str(shard),
        worker=shard.worker.name if shard.worker else None,
        max_in_flight=_max_in_flight(shard),
        descriptor_limit=shard.descriptor_limit or None,
        cpu_share=health.cpu_peak_share,
        others_share=health.others_peak_share,
        stolen_share=health.stolen_peak_share,
        longest_app_s=health.longest_app_s or 0.0,
        quota=quotas.get(shard.worker.name) if shard.worker else None,
        max_connections=shard.group.workload.spec["max_connections_per_host"],
        **{name: getattr(health, name) for name in same},
    )
