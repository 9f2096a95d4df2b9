"""The summary of an experiment: all figures of its report but those of telemetry and of the target's own log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from experiments.analysis.account import Account, account_of
from experiments.analysis.health import ShardHealth, health_of
from experiments.analysis.histogram import Histogram
from experiments.analysis.host_shares import hosts_of
from experiments.analysis.intervals import intervals_of
from experiments.analysis.node_samples import quotas_of
from experiments.analysis.shard_scope import seconds_of
from experiments.analysis.verdict import LatenessFacts, QuotaFacts, ShardFacts, VerdictFacts, judge
from experiments.models import Event, Experiment, Shard, Worker, Workload
from experiments.plans.requests import time_outs_s
from loadgen.protocol.enums import LoadModel
from loadgen.protocol.outcomes import MalformedReason, Outcome

NS = 1_000_000_000
FORMAT = 4
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
TIMES = ("response_time", "service_time", "connection_wait", "lateness")
# The 99th percentile of fewer arrivals is one of the latest few.
LEAST_FOR_P99 = 100
MAX_EVENTS = 200
# True for the closed model: clients wait for each response, so that a slow target gets fewer requests.
DEPENDENT = "response_times_depend_on_completions"
_TIMEOUT, _CONNECT_TIMEOUT = str(Outcome.TIMEOUT.value), str(Outcome.CONNECT_TIMEOUT.value)


def summarise(experiment: Experiment) -> dict[str, Any]:
    """The summary of the present state of the database, as JSON. Durations end in `_s`; a missing time is None.

    `response_time_with_timeouts` counts time-outs with their limits; None if requests of a client app timed out, as an
    app may set limits of its own. `verdict` holds status and reasons; `batches` is the number of batches included, so
    that later ones are noticed.
    """
    batches = experiment.batches.count()
    account = account_of(experiment)
    health = health_of(experiment)
    seconds = _seconds_of(experiment)
    total = seconds.total.to_dict()
    quotas = quotas_of(experiment)
    verdict = judge(_facts(experiment, account, health, total, list(seconds.late_parts(health)), quotas))
    return {
        "format": FORMAT,
        "batches": batches,
        "ended_as": _ended_as(experiment),
        "reason": experiment.reason,
        "account": account.to_dict(),
        "intervals": [_with_uncounted(part, account) for part in intervals_of(experiment)],
        "total": {DEPENDENT: any(_is_dependent(workload) for workload, _ in seconds.workloads), **total},
        "workloads": [{**_head(workload), **each.to_dict()} for workload, each in seconds.workloads],
        "hosts": seconds.with_addresses(hosts_of(experiment)),
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


def _with_uncounted(part: dict[str, Any], account: Account) -> dict[str, Any]:
    """A workload's intervals, with `uncounted_total`: its planned arrivals that are in none of them.

    Those have no row, as they were lost, missing or cut, or their time is before the start, as their shard was stopped
    before it knew the start.
    """
    shards = [shard for shard in account.shards if shard.workload == part["workload"]]
    known = sum(shard.rows + shard.without_row for shard in shards)
    is_open = part["model"] == LoadModel.OPEN
    return {**part, "uncounted_total": max(0, known - part["arrivals_total"]) if is_open else None}


class _Total:
    """The sum of counts and times over some seconds.

    Args:
        limits_ns: outcome code of a time-out → its limit; None: not known.
    """

    COUNTS = ("arrivals", "sent", "completed", "resent", "size")
    COLUMNS = (*COUNTS, "outcomes", "reasons", "statuses", "addresses", *TIMES)

    def __init__(self, limits_ns: dict[str, int] | None = None) -> None:
        self._limits_ns = limits_ns
        self._counts: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self.addresses: dict[str, Counter[str]] = {}  # host → address → requests sent
        self.times = {name: Histogram() for name in TIMES}
        self._time_outs = Histogram()
        self._unknown_time_outs = 0  # those whose limit is not known

    def add(self, values: Sequence[Any]) -> None:
        """Adds a row of the statistics per second: the values of COLUMNS."""
        row = dict(zip(self.COLUMNS, values, strict=True))
        self._counts.update({name: row[name] for name in self.COUNTS})
        self._outcomes.update(row["outcomes"])
        self._reasons.update(row["reasons"])
        self._statuses.update(row["statuses"])
        for host, sent in row["addresses"].items():
            self.addresses.setdefault(host, Counter()).update(sent)
        for outcome in (_TIMEOUT, _CONNECT_TIMEOUT):
            count = row["outcomes"].get(outcome, 0)
            if self._limits_ns is None:
                self._unknown_time_outs += count
            else:
                self._time_outs.add_equal(self._limits_ns[outcome], count)
        for name, histogram in self.times.items():
            histogram.merge(Histogram.from_bytes(row[name]))

    def merge(self, other: _Total) -> None:
        self._counts.update(other._counts)
        self._outcomes.update(other._outcomes)
        self._reasons.update(other._reasons)
        self._statuses.update(other._statuses)
        self._time_outs.merge(other._time_outs)
        self._unknown_time_outs += other._unknown_time_outs
        for name, histogram in self.times.items():
            histogram.merge(other.times[name])

    def to_dict(self) -> dict[str, Any]:
        outcomes, reasons, statuses = self._outcomes, self._reasons, self._statuses
        with_timeouts = Histogram.merged([self.times["response_time"], self._time_outs])
        return {
            **{name: self._counts[name] for name in ("arrivals", "sent", "completed", "resent")},
            "bytes_received": self._counts["size"],
            "outcomes": {Outcome(int(code)).name.lower(): outcomes[code] for code in sorted(outcomes, key=int)},
            "malformed": {MalformedReason(int(code)).name.lower(): reasons[code] for code in sorted(reasons, key=int)},
            "statuses": {status: statuses[status] for status in sorted(statuses, key=int)},
            "times": {
                **{name: _times(histogram) for name, histogram in self.times.items()},
                "response_time_with_timeouts": None if self._unknown_time_outs else _times(with_timeouts),
            },
        }


_LATENESS = _Total.COLUMNS.index("lateness")


class _Seconds(NamedTuple):
    """The statistics per second, added up: a total of each workload, and the lateness of each shard, by its id."""

    workloads: list[tuple[Workload, _Total]]
    lateness: dict[int, Histogram]

    @property
    def total(self) -> _Total:
        whole = _Total()
        for _, total in self.workloads:
            whole.merge(total)
        return whole

    def with_addresses(self, services: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The figures of host_shares.hosts_of, and for each host the requests sent to each address behind its name."""
        addresses = {workload.index: total.addresses for workload, total in self.workloads}
        for service in services:
            for host in service["hosts"]:
                host["addresses"] = dict(sorted(addresses[service["workload"]].get(host["host"], {}).items()))
        return services

    def late_parts(self, health: list[ShardHealth]) -> Iterator[LatenessFacts]:
        """The lateness of each workload and of each shard."""
        for workload, total in self.workloads:
            yield _lateness(f"workload {workload.index} ({workload.service})", total.times["lateness"])
        for facts in health:
            on_worker = f" on {facts.shard.worker}" if facts.shard.worker else ""
            yield _lateness(f"shard {facts.shard}{on_worker}", self.lateness.get(facts.shard.id, Histogram()))


def _seconds_of(experiment: Experiment) -> _Seconds:
    """Adds up the seconds one by one, as a long experiment has many."""
    workloads = list(experiment.workloads.order_by("index"))
    totals = {workload.index: _Total(_limits_ns(workload)) for workload in workloads}
    lateness: dict[int, Histogram] = {}
    for workload, shard, *values in seconds_of(experiment, "workload", "shard_id", *_Total.COLUMNS):
        totals[workload].add(values)
        lateness.setdefault(shard, Histogram()).merge(Histogram.from_bytes(values[_LATENESS]))
    return _Seconds([(workload, totals[workload.index]) for workload in workloads], lateness)


def _limits_ns(workload: Workload) -> dict[str, int] | None:
    """Outcome code of a time-out → its limit; None with a client app, which may set limits of its own.

    A connect time-out is that of a connect, or of the wait for a free connection, which has the response's limit. The
    row does not tell which, so that the smaller limit counts. Two kinds of requests may have taken less: a connect that
    fails ends the request that has waited longest, which may be younger than the connect; and after a redirect the
    time-out of a connect is one of the response.
    """
    if workload.spec["client_app"] is not None:
        return None
    connect_s, read_s = time_outs_s(workload.spec)
    return {_TIMEOUT: round(read_s * NS), _CONNECT_TIMEOUT: round(min(connect_s, read_s) * NS)}


def _is_dependent(workload: Workload) -> bool:
    return bool(workload.spec["model"] == LoadModel.CLOSED)


def _head(workload: Workload) -> dict[str, Any]:
    head = {"workload": workload.index, "service": workload.service, "model": workload.spec["model"]}
    return {**head, DEPENDENT: _is_dependent(workload)}


def _lateness(where: str, histogram: Histogram) -> LatenessFacts:
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
