"""The verdict's limits: the figures of a run that make its result DEGRADED or INVALID when they are exceeded. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

# File descriptors of a shard's process beside its connections: libraries, the event loop, the spool, the broker.
DESCRIPTOR_RESERVE = 64

# The share of requests from which a remark is made beside the verdict.
REMARKED_SHARE = 0.01

SLOW_APP_ADVICE = (
    "nothing is sent or received meanwhile: prepare the app's data when its module is loaded, and neither compute for "
    "long nor wait in next_request() and on_response()"
)
QUOTA_ADVICE = (
    "raise or remove the worker's CPU quota (docker --cpus, the CPU limit of Kubernetes, CPUQuota= of systemd), use "
    "more workers, or lower the rate"
)
# Of a worker whose quota was used up, in the place of another process as the cause.
QUOTA_ABOUT = "time in which a shard could have run, but the CPU quota of its worker was used up"


class Level(StrEnum):
    VALID = "VALID"
    DEGRADED = "DEGRADED"
    INVALID = "INVALID"


@dataclass(frozen=True)
class Limit:
    """The highest permitted value of one figure of a run.

    A figure above `degraded` makes the result DEGRADED, and one above `invalid` INVALID; None means that the limit has
    no such bound. Shares are fractions of 1, times are in seconds; `unit` is the one in which they are shown.
    """

    name: str
    unit: Literal["%", "ms"]
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
        # A clock that was set is off by more than a few digits of milliseconds.
        return f"{1000 * value:.4g} ms" if value < 10 else f"{value:.4g} s"


NOT_ACHIEVED = Limit(
    "not achieved", "%", 0.001, 0.05,
    "planned arrivals (closed model: started requests) that were not sent because of the generator",
    "use more or faster workers, a higher shards_per_worker, or a lower rate",
)  # fmt: skip
LATE = Limit(
    "late arrivals", "%", 0.0, 0.01,
    "planned arrivals that the generator reached too late to send",
    "the worker was too busy or was stopped for a while: keep its core free, raise shards_per_worker if it has idle "
    "cores, or use more workers",
)  # fmt: skip
DROPPED = Limit(
    "dropped arrivals", "%", 0.0, 0.05,
    "planned arrivals that came while max_in_flight requests were outstanding",
    "raise max_in_flight if the target is meant to be that slow, or lower the rate",
)  # fmt: skip
LATENESS_P99 = Limit(
    "lateness p99", "ms", 0.020, 0.200,
    "how late the generator dispatched arrivals",
    "the worker was too busy: keep its core free, raise shards_per_worker if it has idle cores, or use more workers",
)  # fmt: skip
LATENESS_MAX = Limit(
    "lateness max", "ms", 0.500, None,
    "the greatest lateness of an arrival",
    "the generator stood still: look for other processes that ran on the worker then",
)  # fmt: skip
STALL = Limit(
    "event loop stall", "ms", 0.500, None,
    "the longest time between two turns of a shard's event loop",
    "nothing was sent or received meanwhile; the reason names the causes",
)  # fmt: skip
SLOW_APP = Limit(
    "slow client app", "%", 0.01, None,
    "time that a shard spent in calls of its client app of more than 10 ms each; responses that arrive meanwhile are "
    "read late, so that as many times are too long",
    SLOW_APP_ADVICE,
)  # fmt: skip
POOL_WAITS = Limit(
    "waits at max_connections_per_host", "%", 0.01, None,
    "requests that waited for more than 10 ms because all connections that the plan allows a shard were in use",
    "the limit caused their connection wait, not the target: raise max_connections_per_host, unless the plan is meant "
    "to show its effect",
)  # fmt: skip
CPU_SHARE = Limit(
    "CPU of a shard", "%", 0.90, None,
    "the highest share of one core that a shard used over 5 s",
    "the generator was at its limit: raise shards_per_worker if the worker has idle cores, or use more workers",
)  # fmt: skip
WAIT_SHARE = Limit(
    "waiting for the CPU", "%", 0.10, None,
    "time in which a shard could have run, but another process had its core",
    "keep other work off the worker, lower shards_per_worker if it has fewer cores than shards, or give the shard a "
    "core of its own",
)  # fmt: skip
THROTTLED = Limit(
    "throttled by a CPU quota", "%", 0.01, None,
    "the share of the quota's periods (of 100 ms, unless set otherwise) in which the worker had used it up, so that "
    "none of its processes ran until the next period",
    QUOTA_ADVICE,
)  # fmt: skip
OTHERS_SHARE = Limit(
    "others on the core", "%", 0.80, None,
    "the highest share over 5 s that other processes used of the shard's core, or of all its other cores; shards of "
    "the same experiment do not count as others",
    "keep other work off the worker, give the shard a core of its own, or place fewer shards there",
)  # fmt: skip
STOLEN_SHARE = Limit(
    "stolen by the hypervisor", "%", 0.10, None,
    "the highest share of the shard's core over 5 s that the worker's host gave to other virtual machines (steal)",
    "nothing on the worker itself can help: use a dedicated machine, or a virtual one whose cores are not shared",
)  # fmt: skip
CLOCK_UNCERTAINTY = Limit(
    "clock uncertainty", "ms", 0.010, None,
    "the greatest possible error of a shard's clock against the broker's (judged with more than one worker)",
    "a faster network to the broker gives a better estimate",
)  # fmt: skip
CLOCK_DRIFT = Limit(
    "clock drift", "ms", 0.050, None,
    "how far a shard's clock moved against the broker's during the run",
    "a clock was set (the timeline shows a step of the broker's), or a machine was suspended: check time "
    "synchronisation of the broker's machine",
)  # fmt: skip
MISSING = Limit(
    "missing rows", "%", 0.0, 0.001,
    "rows that shards recorded and the database lacks",
    "the workers may still hold them: keep them running, the summary is revised when they arrive",
)  # fmt: skip

LIMITS = (
    NOT_ACHIEVED, LATE, DROPPED, POOL_WAITS, LATENESS_P99, LATENESS_MAX, STALL, SLOW_APP, CPU_SHARE, THROTTLED,
    WAIT_SHARE, OTHERS_SHARE, STOLEN_SHARE, CLOCK_UNCERTAINTY, CLOCK_DRIFT, MISSING,
)  # fmt: skip

# Conditions without a figure.
RULES = (
    (Level.INVALID, "the experiment did not finish: it failed or was cancelled"),
    (Level.INVALID, "nothing was planned"),
    (Level.INVALID, "the account does not close, or a shard planned other arrivals than the plan has"),
    (Level.INVALID, "a shard or its worker was lost, or a shard was restarted during the run"),
    (Level.INVALID, "a worker ran out of file descriptors or of ephemeral ports"),
    (Level.DEGRADED, "closed model: the schedule ended before every client had made its requests_per_client"),
    (Level.DEGRADED, f"a shard's descriptor limit is below its max_in_flight + {DESCRIPTOR_RESERVE}"),
)
