"""The verdict: whether a result can be trusted. It depends on faults of the generator, not of the target. Pure.

Longer than other modules: the facts and the rules about them are read together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.analysis import limits
from experiments.analysis.limits import Level, Limit

_NS = 1_000_000_000
_CAUSES = ("waited", "app", "collecting", "sealing", "own")
# Causes of a smaller share of a stall are not named.
_NAMED_FROM = 0.1


@dataclass(frozen=True)
class StallFacts:
    """The longest stall of a shard's event loop, and its causes as measured by loadgen/engine/stalls.py.

    `app` is the name of the client app, if there is one; `is_throttled` whether the worker's CPU quota was used up.
    """

    length_s: float
    waited_s: float = 0.0
    app_s: float = 0.0
    collecting_s: float = 0.0
    sealing_s: float = 0.0
    own_s: float = 0.0
    app: str = ""
    is_throttled: bool = False

    @classmethod
    def of(cls, gauges: dict[str, int], app: str) -> StallFacts:
        """The stall in a batch's gauges."""
        causes: dict[str, Any] = {f"{name}_s": gauges[f"stall_{name}_ns"] / _NS for name in _CAUSES}
        return cls(length_s=gauges["max_stall_ns"] / _NS, **causes, app=app)

    @property
    def stopped_s(self) -> float:
        """The rest of the time, in which the process neither ran nor waited for the CPU."""
        known_s: float = sum(getattr(self, f"{name}_s") for name in _CAUSES)
        return max(0.0, self.length_s - known_s)

    def causes(self) -> str:
        """How long each cause took, the longest first."""
        parts = [(time_s, text) for time_s, text, _ in self._parts() if time_s >= _NAMED_FROM * self.length_s]
        return ", ".join(f"{1000 * time_s:,.0f} ms {text}" for time_s, text in parts)

    def advice(self) -> str:
        """The remedy for the cause that took longest."""
        return self._parts()[0][2]

    def to_dict(self) -> dict[str, Any]:
        return {f"{name}_s": getattr(self, f"{name}_s") for name in (*_CAUSES, "stopped")}

    def _parts(self) -> list[tuple[float, str, str]]:
        """(seconds, cause, advice), the longest first."""
        parts = [
            (self.app_s, f"in next_request() or on_response() of client app {self.app!r}", limits.SLOW_APP_ADVICE),
            (
                self.collecting_s,
                "in the garbage collector",
                "the client app leaves many objects that refer to each other: make it create fewer of them",
            ),
            (
                self.sealing_s,
                "in the sealing of trace batches",
                "writing to the spool is slow: put galileo_spool_dir on a file system in memory (tmpfs)",
            ),
            (
                self.own_s,
                "of work with requests and responses",
                "more arrived at once than one core can process: raise shards_per_worker, or use more workers",
            ),
            *(self._throttled_parts() if self.is_throttled else self._stopped_parts()),
        ]
        return sorted(parts, key=lambda part: -part[0])

    def _throttled_parts(self) -> list[tuple[float, str, str]]:
        # Since Linux 6.18 a throttled process does not count as waiting for the CPU.
        stopped = "in which the CPU quota was used up, or the process was stopped"
        return [
            (self.waited_s, "waiting for the CPU, which its quota did not grant", limits.QUOTA_ADVICE),
            (self.stopped_s, stopped, limits.QUOTA_ADVICE),
        ]

    def _stopped_parts(self) -> list[tuple[float, str, str]]:
        return [
            (
                self.waited_s,
                "waiting for the CPU, which other processes had",
                "keep other work off the worker, or place fewer shards there",
            ),
            (
                self.stopped_s,
                "in which the process was stopped or swapped out, or the machine stood still",
                "check whether the worker was suspended, out of memory, or paused by its host",
            ),
        ]


@dataclass(frozen=True)
class QuotaFacts:
    """The CPU quota of a worker: the number of cores, and the share of its periods in which it was used up."""

    cores: float
    throttled_share: float


@dataclass(frozen=True)
class ShardFacts:
    """The facts about one shard's process; None where they are unknown."""

    name: str
    worker: str | None  # None: no worker took it
    failure: str = ""  # the end of a sentence: "was lost", …; "" when it finished
    max_in_flight: int = 1000
    descriptor_limit: int | None = None
    cpu_share: float | None = None
    wait_share: float | None = None
    others_share: float | None = None
    stolen_share: float | None = None
    stall: StallFacts | None = None
    app: str = ""  # the name of its client app, if it has one
    app_share: float | None = None  # of the CPU time used; above 1 when the app waits
    slow_app_share: float | None = None
    longest_app_s: float = 0.0
    max_connections: int | None = None  # max_connections_per_host
    pool_wait_share: float | None = None
    clock_uncertainty_s: float | None = None
    clock_drift_s: float | None = None
    quota: QuotaFacts | None = None  # None: without one, or its worker publishes no telemetry

    @property
    def was_throttled(self) -> bool:
        """Whether its worker's quota explains why it did not run."""
        return self.quota is not None and limits.THROTTLED.level(self.quota.throttled_share) != Level.VALID


@dataclass(frozen=True)
class LatenessFacts:
    """The lateness of a workload's or a shard's arrivals; None if they are too few for a percentile."""

    where: str
    p99_s: float | None


@dataclass(frozen=True)
class VerdictFacts:
    """The facts that a verdict depends on. Counts are of arrivals; `contradictions` are those of the account."""

    ended_as: str
    planned: int
    reason: str = ""
    late: int = 0
    dropped: int = 0
    cut: int = 0
    lost: int = 0
    not_made: int = 0  # requests of requests_per_client that the clients did not start
    missing: int = 0
    untraced: int = 0  # without rows, as tracing was paused
    no_descriptor: int = 0
    no_port: int = 0
    no_route: int = 0
    sent: int = 0
    resent: int = 0  # requests that were sent a second time
    malformed: Mapping[str, int] = field(default_factory=dict)  # responses, by reason
    contradictions: tuple[str, ...] = ()
    lateness_p99_s: float | None = None
    lateness_max_s: float | None = None
    lateness: tuple[LatenessFacts, ...] = ()  # of each workload and each shard
    shards: tuple[ShardFacts, ...] = ()


@dataclass(frozen=True)
class Reason:
    level: Level
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The worst level of its reasons; VALID without any. Reasons of level VALID are remarks."""

    status: Level
    reasons: list[Reason]


def judge(facts: VerdictFacts) -> Verdict:
    """The verdict on a run, with its most serious reasons first."""
    reasons = [*_of_the_run(facts), *_of_arrivals(facts), *_of_shards(facts)]
    reasons.sort(key=lambda reason: (Level.INVALID, Level.DEGRADED, Level.VALID).index(reason.level))
    return Verdict(reasons[0].level if reasons else Level.VALID, reasons)


def _of_the_run(facts: VerdictFacts) -> Iterator[Reason]:
    if facts.ended_as != "FINISHED":
        end = f"it ended as {facts.ended_as}" if facts.ended_as else "it is still running"
        because = f": {facts.reason}" if facts.reason else ""
        yield Reason(Level.INVALID, f"the experiment did not finish, {end}{because}")
    if facts.planned == 0:
        yield Reason(Level.INVALID, "nothing was planned, so the run has no result")
    for sentence in facts.contradictions:
        yield Reason(Level.INVALID, f"the account does not close: {sentence}")


def _of_arrivals(facts: VerdictFacts) -> Iterator[Reason]:
    planned = max(1, facts.planned)
    if facts.no_descriptor:
        yield Reason(
            Level.INVALID,
            f"{facts.no_descriptor:,} connections could not be opened because the worker ran out of file descriptors: "
            "raise its hard limit (ulimit -Hn)",
        )
    if facts.no_port:
        yield Reason(
            Level.INVALID,
            f"{facts.no_port:,} connections could not be opened because the worker ran out of ephemeral ports (a port "
            "becomes free a minute after its connection was closed): keep connections alive (connection: keep-alive, "
            "and a target that does not close them), widen net.ipv4.ip_local_port_range, or use more workers, or more "
            "addresses of the target",
        )
    if facts.not_made:
        yield Reason(
            Level.DEGRADED,
            f"{facts.not_made:,} requests of requests_per_client were not made before the schedule ended: raise the "
            "duration, or use fewer requests",
        )
    if facts.untraced:
        yield Reason(
            Level.VALID,
            f"{facts.untraced:,} of {facts.planned:,} arrivals were not traced, as requested: they are in all figures, "
            "but have no rows",
        )
    yield from _remarks_on_the_target(facts)
    # No other remedy for a slow generator helps a worker whose quota is used up.
    slow_advice = limits.QUOTA_ADVICE if any(shard.was_throttled for shard in facts.shards) else ""
    not_achieved = facts.late + facts.dropped + facts.cut + facts.lost + facts.no_descriptor + facts.no_port
    not_achieved += facts.no_route
    for limit, count in (
        (limits.NOT_ACHIEVED, not_achieved),
        (limits.LATE, facts.late),
        (limits.DROPPED, facts.dropped),
        (limits.MISSING, facts.missing),
    ):
        advice = "" if limit == limits.MISSING else slow_advice
        yield from _reason(limit, count / planned, f"{count:,} of {facts.planned:,}, ", advice=advice)
    yield from _reason(limits.LATENESS_P99, facts.lateness_p99_s, advice=slow_advice)
    yield from _of_the_latest(facts, slow_advice)
    yield from _reason(limits.LATENESS_MAX, facts.lateness_max_s, advice=slow_advice)


def _of_the_latest(facts: VerdictFacts, advice: str) -> Iterator[Reason]:
    """The workload or the shard with the greatest lateness, if it is worse than the level of all arrivals together."""
    latest = max(facts.lateness, key=lambda part: part.p99_s or 0.0, default=None)
    if latest is None or latest.p99_s is None:
        return
    level = limits.LATENESS_P99.level
    if facts.lateness_p99_s is None or level(latest.p99_s) != level(facts.lateness_p99_s):
        yield from _reason(limits.LATENESS_P99, latest.p99_s, f"{latest.where}, ", advice=advice)


def _remarks_on_the_target(facts: VerdictFacts) -> Iterator[Reason]:
    """Remarks on facts that are the target's, but that change the meaning of the figures."""
    sent = max(1, facts.sent)
    if facts.resent / sent > limits.REMARKED_SHARE:
        yield Reason(
            Level.VALID,
            f"{facts.resent:,} of {facts.sent:,} requests ({_percent(facts.resent / sent)}) were sent a second time, "
            "as the target had closed their connections: it keeps idle ones for a shorter time than the load needs",
        )
    malformed = sum(facts.malformed.values())
    if malformed / sent > limits.REMARKED_SHARE:
        reasons = ", ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in facts.malformed.items())
        yield Reason(
            Level.VALID,
            f"{malformed:,} of {facts.sent:,} responses ({_percent(malformed / sent)}) were malformed ({reasons}): "
            "look at some of them with capture: errors",
        )


def _of_shards(facts: VerdictFacts) -> Iterator[Reason]:
    several_workers = len({shard.worker for shard in facts.shards if shard.worker}) > 1
    quotas = {shard.worker: shard.quota for shard in facts.shards if shard.worker and shard.quota}
    for worker, quota in quotas.items():
        before = f"worker {worker}, whose quota is {quota.cores:.4g} cores, "
        yield from _reason(limits.THROTTLED, quota.throttled_share, before)
    for shard in facts.shards:
        where = f"shard {shard.name} on {shard.worker}" if shard.worker else f"shard {shard.name}"
        if shard.failure:
            yield Reason(Level.INVALID, f"{where} {shard.failure}")
        needed = shard.max_in_flight + limits.DESCRIPTOR_RESERVE
        if shard.descriptor_limit is not None and shard.descriptor_limit < needed:
            yield Reason(
                Level.DEGRADED,
                f"{where} may open {shard.descriptor_limit:,} file descriptors, below the {needed:,} that "
                f"max_in_flight = {shard.max_in_flight:,} may need: raise the worker's hard limit (ulimit -Hn)",
            )
        if shard.stall is not None:
            stall = replace(shard.stall, is_throttled=shard.was_throttled)
            yield from _reason(limits.STALL, stall.length_s, f"{where}, ", f"; {stall.causes()}", advice=stall.advice())
        slowest = f"; the longest took {1000 * shard.longest_app_s:,.0f} ms"
        yield from _reason(limits.SLOW_APP, shard.slow_app_share, f"{where}, client app {shard.app!r}, ", slowest)
        app = (
            f"; {_percent(shard.app_share)} of it in client app {shard.app!r}" if shard.app and shard.app_share else ""
        )
        yield from _reason(limits.CPU_SHARE, shard.cpu_share, f"{where}, ", app)
        pool = f"{where}, max_connections_per_host = {shard.max_connections}, "
        yield from _reason(limits.POOL_WAITS, shard.pool_wait_share, pool)
        about, advice = (limits.QUOTA_ABOUT, limits.QUOTA_ADVICE) if shard.was_throttled else ("", "")
        yield from _reason(limits.WAIT_SHARE, shard.wait_share, f"{where}, ", advice=advice, about=about)
        for limit, value in (
            (limits.OTHERS_SHARE, shard.others_share),
            (limits.STOLEN_SHARE, shard.stolen_share),
            (limits.CLOCK_UNCERTAINTY, shard.clock_uncertainty_s if several_workers else None),
            (limits.CLOCK_DRIFT, shard.clock_drift_s),
        ):
            yield from _reason(limit, value, f"{where}, ")


def _percent(share: float) -> str:
    return f"{100 * min(share, 1.0):.0f} %"


def _reason(
    limit: Limit, value: float | None, before: str = "", detail: str = "", *, advice: str = "", about: str = ""
) -> Iterator[Reason]:
    """The reason if a figure is above its limit: the figure, the bound, their meaning, details and advice."""
    if value is None or (level := limit.level(value)) == Level.VALID:
        return
    bound = limit.invalid if level == Level.INVALID else limit.degraded
    assert bound is not None  # the level says which bound was exceeded
    yield Reason(
        level,
        f"{limit.name}: {before}{limit.text(value)}, above {limit.text(bound)} "
        f"({about or limit.about}{detail}): {advice or limit.advice}",
    )
