"""The verdict: whether a result can be trusted, judged by what the generator, not the target, did wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.analysis.limits import (
    CLOCK_DRIFT,
    CLOCK_UNCERTAINTY,
    CPU_SHARE,
    DESCRIPTOR_RESERVE,
    DROPPED,
    LATE,
    LATENESS_MAX,
    LATENESS_P99,
    MISSING,
    NOT_ACHIEVED,
    OTHERS_SHARE,
    POOL_WAITS,
    SLOW_APP,
    STALL,
    STOLEN_SHARE,
    WAIT_SHARE,
    Level,
    Threshold,
)
from experiments.analysis.stalls import StallFacts


@dataclass(frozen=True)
class ShardFacts:
    """What is known of one shard's process; None where it is not."""

    name: str
    worker: str | None  # None: none took it
    broke: str = ""  # how it came to grief: "was lost", …; empty when it ran through
    max_in_flight: int = 1000
    descriptor_limit: int | None = None
    cpu_share: float | None = None
    wait_share: float | None = None
    others_share: float | None = None
    stolen_share: float | None = None
    stall: StallFacts | None = None
    app: str = ""  # its client app, if it has one
    app_share: float | None = None  # of the CPU time that it used; more than 1 when the app waits
    slow_app_share: float | None = None
    longest_app_s: float = 0.0
    max_connections: int | None = None  # max_connections_per_host
    pool_wait_share: float | None = None
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
    untraced: int = 0  # without a row, as tracing was paused
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
    """The worst level of its reasons; VALID without any. A reason of that level is a remark."""

    status: Level
    reasons: list[Reason]


def judge(facts: VerdictFacts) -> Verdict:
    """The verdict over a run, the gravest reasons first."""
    reasons = [*_of_the_run(facts), *_of_arrivals(facts), *_of_shards(facts)]
    reasons.sort(key=lambda reason: (Level.INVALID, Level.DEGRADED, Level.VALID).index(reason.level))
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
            "raise its hard limit (ulimit -Hn)",
        )
    if facts.no_port:
        yield Reason(
            Level.INVALID,
            f"{facts.no_port:,} connections could not be opened because the worker ran out of ephemeral ports (a port "
            "is free again a minute after its connection was closed): keep connections alive (connection: keep-alive, "
            "and a target that does not close them), widen net.ipv4.ip_local_port_range, or use more workers, or more "
            "addresses of the target",
        )
    if facts.not_made:
        yield Reason(
            Level.DEGRADED,
            f"{facts.not_made:,} requests of requests_per_client were not made before the schedule was over: raise the "
            "duration, or use fewer requests",
        )
    if facts.untraced:
        yield Reason(
            Level.VALID,
            f"{facts.untraced:,} of {facts.planned:,} arrivals were not traced, as was asked: they are in all figures, "
            "but have no rows",
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
    several_workers = len({shard.worker for shard in facts.shards if shard.worker}) > 1
    for shard in facts.shards:
        where = f"shard {shard.name} on {shard.worker}" if shard.worker else f"shard {shard.name}"
        if shard.broke:
            yield Reason(Level.INVALID, f"{where} {shard.broke}")
        needed = shard.max_in_flight + DESCRIPTOR_RESERVE
        if shard.descriptor_limit is not None and shard.descriptor_limit < needed:
            yield Reason(
                Level.DEGRADED,
                f"{where} may open {shard.descriptor_limit:,} file descriptors, below the {needed:,} that "
                f"max_in_flight = {shard.max_in_flight:,} can need: raise the worker's hard limit (ulimit -Hn)",
            )
        if shard.stall is not None:
            causes = f"; {shard.stall.causes()}"
            yield from _reason(STALL, shard.stall.length_s, f"{where}, ", causes, shard.stall.advice())
        slowest = f"; the longest took {1000 * shard.longest_app_s:,.0f} ms"
        yield from _reason(SLOW_APP, shard.slow_app_share, f"{where}, client app {shard.app!r}, ", slowest)
        app = (
            f"; {_percent(shard.app_share)} of it in client app {shard.app!r}" if shard.app and shard.app_share else ""
        )
        yield from _reason(CPU_SHARE, shard.cpu_share, f"{where}, ", app)
        limit = f"{where}, max_connections_per_host = {shard.max_connections}, "
        yield from _reason(POOL_WAITS, shard.pool_wait_share, limit)
        for threshold, value in (
            (WAIT_SHARE, shard.wait_share),
            (OTHERS_SHARE, shard.others_share),
            (STOLEN_SHARE, shard.stolen_share),
            (CLOCK_UNCERTAINTY, shard.clock_uncertainty_s if several_workers else None),
            (CLOCK_DRIFT, shard.clock_drift_s),
        ):
            yield from _reason(threshold, value, f"{where}, ")


def _percent(share: float) -> str:
    return f"{100 * min(share, 1.0):.0f} %"


def _reason(
    threshold: Threshold, value: float | None, before: str = "", detail: str = "", advice: str = ""
) -> Iterator[Reason]:
    """A sentence of figure, bound, what they are about, details and advice; none when the figure is good."""
    if value is None or (level := threshold.level(value)) == Level.VALID:
        return
    bound = threshold.invalid if level == Level.INVALID else threshold.degraded
    assert bound is not None  # a level comes from its bound
    yield Reason(
        level,
        f"{threshold.name}: {before}{threshold.text(value)}, above {threshold.text(bound)} "
        f"({threshold.about}{detail}): {advice or threshold.advice}",
    )
