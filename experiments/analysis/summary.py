"""The summary of an experiment: all figures of its report but those of telemetry and of the target's own log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.analysis.account import Account, account_of
from experiments.analysis.health import ShardHealth, health_of
from experiments.analysis.histogram import Histogram
from experiments.analysis.host_shares import hosts_of
from experiments.analysis.intervals import intervals_of
from experiments.analysis.shard_scope import seconds_of
from experiments.analysis.verdict import ShardFacts, VerdictFacts, judge
from experiments.models import Event, Experiment, Shard, Worker
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
    total = _sum(each for _, each in workloads)
    verdict = judge(_facts(experiment, account, health, total["times"]["lateness"]))
    return {
        "format": FORMAT,
        "batches": batches,
        "ended_as": _ended_as(experiment),
        "reason": experiment.reason,
        "account": account.to_dict(),
        "intervals": intervals_of(experiment),
        "total": {DEPENDENT: any(head[DEPENDENT] for head, _ in workloads), **total},
        "workloads": [{**head, **each.to_dict()} for head, each in workloads],
        "hosts": hosts_of(experiment),
        "workers": _workers(health),
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


class _Total:
    """The sum of counts and times over some seconds."""

    COUNTS = ("arrivals", "sent", "completed", "size")
    COLUMNS = (*COUNTS, "outcomes", "statuses", *TIMES)

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._times = {name: Histogram() for name in TIMES}

    def add(self, values: Sequence[Any]) -> None:
        """Adds a row of the statistics per second: the values of COLUMNS."""
        row = dict(zip(self.COLUMNS, values, strict=True))
        self._counts.update({name: row[name] for name in self.COUNTS})
        self._outcomes.update(row["outcomes"])
        self._statuses.update(row["statuses"])
        for name, histogram in self._times.items():
            histogram.merge(Histogram.from_bytes(row[name]))

    def merge(self, other: _Total) -> None:
        self._counts.update(other._counts)
        self._outcomes.update(other._outcomes)
        self._statuses.update(other._statuses)
        for name, histogram in self._times.items():
            histogram.merge(other._times[name])

    def to_dict(self) -> dict[str, Any]:
        outcomes, statuses = self._outcomes, self._statuses
        return {
            **{name: self._counts[name] for name in ("arrivals", "sent", "completed")},
            "bytes_received": self._counts["size"],
            "outcomes": {Outcome(int(code)).name.lower(): outcomes[code] for code in sorted(outcomes, key=int)},
            "statuses": {status: statuses[status] for status in sorted(statuses, key=int)},
            "times": {name: _times(histogram) for name, histogram in self._times.items()},
        }


def _workloads(experiment: Experiment) -> list[tuple[dict[str, Any], _Total]]:
    """The head of each workload and its total. Seconds are added one by one, as a long experiment has many."""
    totals: dict[int, _Total] = {}
    for workload, *values in seconds_of(experiment, "workload", *_Total.COLUMNS):
        totals.setdefault(workload, _Total()).add(values)
    return [
        (
            {
                "workload": workload.index,
                "service": workload.service,
                "model": workload.spec["model"],
                DEPENDENT: workload.spec["model"] == LoadModel.CLOSED,
            },
            totals.get(workload.index, _Total()),
        )
        for workload in experiment.workloads.order_by("index")
    ]


def _sum(totals: Iterable[_Total]) -> dict[str, Any]:
    whole = _Total()
    for total in totals:
        whole.merge(total)
    return whole.to_dict()


def _times(histogram: Histogram) -> dict[str, Any]:
    quantiles = {f"{name}_s": _seconds(histogram.quantile(q)) for name, q in QUANTILES}
    max_s = histogram.max_ns / NS if histogram.count else None
    return {"count": histogram.count, "mean_s": _seconds(histogram.mean_ns), **quantiles, "max_s": max_s}


def _seconds(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / NS


def _workers(health: list[ShardHealth]) -> list[dict[str, Any]]:
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
    experiment: Experiment, account: Account, health: list[ShardHealth], lateness: dict[str, Any]
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
        shards=tuple(_shard_facts(shard) for shard in health),
    )


def _max_in_flight(shard: Shard) -> int:
    """The most requests in flight; in the closed model, each of the shard's clients has at most one."""
    if shard.group.workload.spec["model"] == LoadModel.CLOSED:
        return sum(len(range(*bounds)) for bounds in shard.clients)
    return int(shard.group.workload.spec["max_in_flight"])


def _shard_facts(health: ShardHealth) -> ShardFacts:
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
        max_connections=shard.group.workload.spec["max_connections_per_host"],
        **{name: getattr(health, name) for name in same},
    )
