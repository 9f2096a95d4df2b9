"""The verdict: whether a result can be trusted, judged by what the generator, not the target, did wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

# Descriptors that a shard's process needs beside its connections: libraries, the loop, the spool, the broker.
DESCRIPTOR_RESERVE = 64


class Level(StrEnum):
    VALID = "VALID"
    DEGRADED = "DEGRADED"
    INVALID = "INVALID"


@dataclass(frozen=True)
class Threshold:
    """A figure of a run that must not be above `degraded`, or `invalid` (None: no such bound). Shares are of 1."""

    name: str
    unit: str  # "%", "ms" or "" for a count
    degraded: float | None
    invalid: float | None
    about: str
    advice: str

    def level(self, value: float) -> Level:
        if self.invalid is not None and value > self.invalid:
            return Level.INVALID
        if self.degraded is not None and value > self.degraded:
            return Level.DEGRADED
        return Level.VALID

    def text(self, value: float) -> str:
        """A figure with its unit."""
        if self.unit == "%":
            return f"{100 * value:.4g} %"
        if self.unit == "ms":
            return f"{1000 * value:.4g} ms"
        return f"{value:,.0f}"


NOT_ACHIEVED = Threshold(
    "not achieved", "%", 0.001, 0.05,
    "planned arrivals (closed model: started requests) that were not sent because of the generator",
    "use more or faster workers, a higher shards_per_worker, or a lower rate",
)  # fmt: skip
LATE = Threshold(
    "late arrivals", "%", 0.0, 0.01,
    "planned arrivals that the generator reached too late to send",
    "the worker was too busy or was stopped for a while: keep its core free, or use more workers",
)  # fmt: skip
DROPPED = Threshold(
    "dropped arrivals", "%", 0.0, 0.05,
    "planned arrivals that found max_in_flight requests outstanding",
    "raise max_in_flight if the target is meant to be that slow, or lower the rate",
)  # fmt: skip
LATENESS_P99 = Threshold(
    "lateness p99", "ms", 0.020, 0.200,
    "how late the generator was with its own arrivals",
    "the worker was too busy: keep its core free, or use more workers",
)  # fmt: skip
LATENESS_MAX = Threshold(
    "lateness max", "ms", 0.500, None,
    "the latest of all arrivals",
    "the generator stood still: look for what else ran on the worker then",
)  # fmt: skip
STALL = Threshold(
    "event loop stall", "ms", 0.500, None,
    "the longest time between two turns of a shard's event loop",
    "the shard's process stood still: look for what else ran on the worker, and for slow code in the client app",
)  # fmt: skip
CPU_SHARE = Threshold(
    "CPU of a shard", "%", 0.90, None,
    "the highest share of one core that a shard used over 5 s",
    "the generator was at its limit: raise shards_per_worker if the worker has idle cores, or use more workers",
)  # fmt: skip
WAIT_SHARE = Threshold(
    "waiting for the CPU", "%", 0.10, None,
    "time that a shard could have run, but another process had its core",
    "keep other work off the worker, or give the shard a core of its own",
)  # fmt: skip
OTHERS_SHARE = Threshold(
    "others on the core", "%", 0.80, None,
    "the highest share that others, or the hypervisor, used over 5 s of the shard's core, or of all its other cores",
    "keep other work off the worker, give the shard a core of its own, or place fewer shards there",
)  # fmt: skip
CLOCK_UNCERTAINTY = Threshold(
    "clock uncertainty", "ms", 0.010, None,
    "how far a shard's clock may be off the common one (judged with more than one worker)",
    "a faster network to the broker gives a better estimate",
)  # fmt: skip
CLOCK_DRIFT = Threshold(
    "clock drift", "ms", 0.050, None,
    "how far a shard's clock moved against the broker's during the run",
    "a clock was set, or a machine was suspended: check time synchronisation of the broker's machine",
)  # fmt: skip
MISSING = Threshold(
    "missing rows", "%", 0.0, 0.001,
    "rows that shards made and the database lacks",
    "the workers may still hold them: keep them running, the summary is revised when they arrive",
)  # fmt: skip

THRESHOLDS = (
    NOT_ACHIEVED, LATE, DROPPED, LATENESS_P99, LATENESS_MAX, STALL, CPU_SHARE, WAIT_SHARE, OTHERS_SHARE,
    CLOCK_UNCERTAINTY, CLOCK_DRIFT, MISSING,
)  # fmt: skip

# What has no figure to set a bound for.
RULES = (
    (Level.INVALID, "the experiment did not finish: it failed or was cancelled"),
    (Level.INVALID, "nothing was planned"),
    (Level.INVALID, "the account does not close, or a shard planned other arrivals than the plan has"),
    (Level.INVALID, "a shard or its worker was lost, or a shard began again during the run"),
    (Level.INVALID, "a worker ran out of file descriptors or of ephemeral ports"),
    (Level.DEGRADED, "closed model: the schedule was over before every client had made its requests_per_client"),
    (Level.DEGRADED, f"a shard's descriptor limit is below its max_in_flight + {DESCRIPTOR_RESERVE}"),
)


@dataclass(frozen=True)
class ShardFacts:
    """What is known of one shard's process; None where it is not."""

    name: str
    worker: str
    broke: str = ""  # how it came to grief: "was lost", …; empty when it ran through
    max_in_flight: int = 1000
    descriptor_limit: int | None = None
    cpu_share: float | None = None
    wait_share: float | None = None
    others_share: float | None = None
    max_stall_s: float | None = None
    clock_uncertainty_s: float | None = None
    clock_drift_s: float | None = None


@dataclass(frozen=True)
class VerdictFacts:
    """What a verdict rests on. Counts are of arrivals; `contradictions` says what does not add up in the account."""

    ended_as: str
    planned: int
    reason: str = ""
    late: int = 0
    dropped: int = 0
    cut: int = 0
    lost: int = 0
    not_made: int = 0  # requests that the clients of the closed model were to make, and did not start
    missing: int = 0
    no_descriptor: int = 0
    no_port: int = 0
    no_route: int = 0
    contradictions: tuple[str, ...] = ()
    lateness_p99_s: float | None = None
    lateness_max_s: float | None = None
    shards: tuple[ShardFacts, ...] = ()


@dataclass(frozen=True)
class Reason:
    level: Level
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The worst level of its reasons; VALID without any."""

    status: Level
    reasons: list[Reason]


def judge(facts: VerdictFacts) -> Verdict:
    """The verdict over a run, the gravest reasons first."""
    reasons = [*_of_the_run(facts), *_of_arrivals(facts), *_of_shards(facts)]
    reasons.sort(key=lambda reason: reason.level != Level.INVALID)
    return Verdict(reasons[0].level if reasons else Level.VALID, reasons)


def _of_the_run(facts: VerdictFacts) -> Iterator[Reason]:
    if facts.ended_as != "FINISHED":
        end = f"it ended as {facts.ended_as}" if facts.ended_as else "it is still under way"
        because = f": {facts.reason}" if facts.reason else ""
        yield Reason(Level.INVALID, f"the experiment did not finish, {end}{because}")
    if facts.planned == 0:
        yield Reason(Level.INVALID, "nothing was planned: there is nothing that this run could show")
    for sentence in facts.contradictions:
        yield Reason(Level.INVALID, f"the account does not close: {sentence}")


def _of_arrivals(facts: VerdictFacts) -> Iterator[Reason]:
    planned = max(1, facts.planned)
    if facts.no_descriptor:
        yield Reason(
            Level.INVALID,
            f"{facts.no_descriptor:,} connections could not be opened because the worker ran out of file descriptors: "
            "raise its limit (ulimit -n)",
        )
    if facts.no_port:
        yield Reason(
            Level.INVALID,
            f"{facts.no_port:,} connections could not be opened because the worker ran out of ephemeral ports: use "
            "more workers, or keep connections alive (connection: keep-alive, and a target that does not close them)",
        )
    if facts.not_made:
        yield Reason(
            Level.DEGRADED,
            f"{facts.not_made:,} requests of requests_per_client were not made before the schedule was over: raise the "
            "duration, or use fewer requests",
        )
    not_achieved = facts.late + facts.dropped + facts.cut + facts.lost + facts.no_descriptor + facts.no_port
    not_achieved += facts.no_route
    for threshold, count in (
        (NOT_ACHIEVED, not_achieved),
        (LATE, facts.late),
        (DROPPED, facts.dropped),
        (MISSING, facts.missing),
    ):
        yield from _reason(threshold, count / planned, f"{count:,} of {facts.planned:,}, ")
    yield from _reason(LATENESS_P99, facts.lateness_p99_s)
    yield from _reason(LATENESS_MAX, facts.lateness_max_s)


def _of_shards(facts: VerdictFacts) -> Iterator[Reason]:
    several_workers = len({shard.worker for shard in facts.shards}) > 1
    for shard in facts.shards:
        where = f"shard {shard.name} on {shard.worker}"
        if shard.broke:
            yield Reason(Level.INVALID, f"{where} {shard.broke}")
        needed = shard.max_in_flight + DESCRIPTOR_RESERVE
        if shard.descriptor_limit is not None and shard.descriptor_limit < needed:
            yield Reason(
                Level.DEGRADED,
                f"{where} may open {shard.descriptor_limit:,} file descriptors, below the {needed:,} that "
                f"max_in_flight = {shard.max_in_flight:,} can need: raise the worker's limit (ulimit -n)",
            )
        for threshold, value in (
            (STALL, shard.max_stall_s),
            (CPU_SHARE, shard.cpu_share),
            (WAIT_SHARE, shard.wait_share),
            (OTHERS_SHARE, shard.others_share),
            (CLOCK_UNCERTAINTY, shard.clock_uncertainty_s if several_workers else None),
            (CLOCK_DRIFT, shard.clock_drift_s),
        ):
            yield from _reason(threshold, value, f"{where}, ")


def _reason(threshold: Threshold, value: float | None, before: str = "") -> Iterator[Reason]:
    if value is None or (level := threshold.level(value)) == Level.VALID:
        return
    bound = threshold.invalid if level == Level.INVALID else threshold.degraded
    assert bound is not None  # a level comes from its bound
    yield Reason(
        level,
        f"{threshold.name}: {before}{threshold.text(value)}, above {threshold.text(bound)} "
        f"({threshold.about}): {threshold.advice}",
    )
