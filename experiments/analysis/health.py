"""The health of the generator: each shard's CPU, stalls and clock, from the gauges of its batches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.analysis.shard_scope import gauges_of, shards_of
from experiments.analysis.verdict import StallFacts
from experiments.models import Batch, Experiment, Shard, ShardStatus

NS = 1_000_000_000
# CPU shares over shorter windows would show the sampling rather than the load.
PEAK_WINDOW_NS = 5 * NS
_FIGURES = (
    "cpu_share", "cpu_peak_share", "wait_share", "wait_peak_share", "others_peak_share", "stolen_peak_share",
    "max_stall_s", "app_share", "slow_app_share", "longest_app_s", "pool_wait_share", "clock_uncertainty_s",
    "clock_drift_s", "spool_peak_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class ShardHealth:
    """One shard's process during its run; None where no batch had the figure. Shares are of one core."""

    shard: Shard
    cpu_share: float | None
    cpu_peak_share: float | None
    wait_share: float | None
    wait_peak_share: float | None
    others_peak_share: float | None
    stolen_peak_share: float | None
    stall: StallFacts | None
    app_share: float | None  # of the CPU time
    slow_app_share: float | None  # of the elapsed time, in slow calls of the client app
    longest_app_s: float | None
    pool_wait_share: float | None  # of the requests sent
    clock_drift_s: float | None
    spool_peak_bytes: int
    restarted: bool

    @property
    def app(self) -> str:
        """The name of its client app; "" without one."""
        return self.shard.group.workload.spec["client_app"] or ""

    @property
    def max_stall_s(self) -> float | None:
        return None if self.stall is None else self.stall.length_s

    @property
    def clock_uncertainty_s(self) -> float | None:
        uncertainty_ns = self.shard.clock_uncertainty_ns
        return None if uncertainty_ns is None else uncertainty_ns / NS

    @property
    def failure(self) -> str:
        """How the shard failed, as the end of a sentence; "" when it finished."""
        if self.shard.status == ShardStatus.LOST:
            return f"was lost: {self.shard.reason}" if self.shard.reason else "was lost"
        if self.shard.status == ShardStatus.FAILED:
            return f"failed: {self.shard.reason}" if self.shard.reason else "failed"
        if self.shard.totals is None:
            return "never reported its end"
        return "was restarted during the run" if self.restarted else ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "shard": str(self.shard),
            "worker": self.shard.worker.name if self.shard.worker else None,
            "status": self.shard.status,
            "attempt": self.shard.attempt,
            "reason": self.shard.reason,
            "clients": sum(len(range(*bounds)) for bounds in self.shard.clients),
            "descriptor_limit": self.shard.descriptor_limit or None,
            "stall": None if self.stall is None else self.stall.to_dict(),
            **{name: getattr(self, name) for name in _FIGURES},
        }


def health_of(experiment: Experiment) -> list[ShardHealth]:
    """Each shard's health over its present attempt, in the order of the shards."""
    return [_health(shard, gauges_of(experiment, shard)) for shard in shards_of(experiment)]


def _health(shard: Shard, gauges: list[dict[str, int]]) -> ShardHealth:
    ran = [gauge for gauge in gauges if gauge["wall_ns"] > 0]
    walls = [gauge["wall_ns"] for gauge in ran]
    cpu, wait, others, stolen = (
        [gauge[name] for gauge in ran] for name in ("cpu_ns", "wait_ns", "others_ns", "stolen_ns")
    )
    last = ran[-1] if ran else None
    app = shard.group.workload.spec["client_app"]
    longest = max(gauges, key=lambda gauge: gauge["max_stall_ns"], default=None)
    return ShardHealth(
        shard=shard,
        cpu_share=cpu[-1] / walls[-1] if ran else None,
        cpu_peak_share=peak_share(walls, cpu),
        wait_share=wait[-1] / walls[-1] if ran else None,
        wait_peak_share=peak_share(walls, wait),
        others_peak_share=_at_most_one(peak_share(walls, others)),
        stolen_peak_share=_at_most_one(peak_share(walls, stolen)),
        stall=None if longest is None else StallFacts.of(longest, app or ""),
        app_share=last["app_ns"] / max(1, last["cpu_ns"]) if last and app else None,
        slow_app_share=last["slow_app_ns"] / last["wall_ns"] if last and app else None,
        longest_app_s=last["longest_app_ns"] / NS if last and app else None,
        pool_wait_share=_pool_wait_share(shard, last),
        clock_drift_s=_drift_s(shard, gauges),
        spool_peak_bytes=max((gauge["spool_bytes"] for gauge in gauges), default=0),
        # A restart before the first request was sent does not affect the result.
        restarted=bool(shard.totals and shard.totals["skipped"])
        or Batch.objects.filter(shard=shard, attempt__lt=shard.attempt, rows__gt=0).exists(),
    )


def _pool_wait_share(shard: Shard, gauges: dict[str, int] | None) -> float | None:
    """The share of sent requests that waited for max_connections_per_host; None without that limit."""
    if gauges is None or not shard.group.workload.spec["max_connections_per_host"]:
        return None
    totals = shard.totals
    if totals is None:
        batches = Batch.objects.filter(shard=shard, attempt=shard.attempt).order_by("-number")
        totals = batches.values_list("counters", flat=True)[0]
    return float(gauges["pool_waits"] / max(1, totals["sent"]))


def _at_most_one(share: float | None) -> float | None:
    """Cores are sampled once a second, and not when batches are sealed, so that a share may be slightly above 1."""
    return None if share is None else min(share, 1.0)


def peak_share(walls_ns: Sequence[int], used_ns: Sequence[int]) -> float | None:
    """The highest used/wall over any stretch of PEAK_WINDOW_NS; over the whole run when that is shorter.

    Args:
        walls_ns: time since the load's start at each sample, never decreasing, > 0.
        used_ns: the time used until each sample.
    """
    if not walls_ns:
        return None
    walls, used = [0, *walls_ns], [0, *used_ns]
    shares = [used[-1] / walls[-1]] if walls[-1] < PEAK_WINDOW_NS else []
    for end, wall in enumerate(walls):
        # The latest sample at least a whole window before this one.
        begin = bisect_right(walls, wall - PEAK_WINDOW_NS) - 1
        if begin >= 0:
            shares.append((used[end] - used[begin]) / (wall - walls[begin]))
    return max(shares)


def _drift_s(shard: Shard, gauges: list[dict[str, int]]) -> float | None:
    """How far the clock moved, beyond the uncertainties of both samples, from the offset at the shard's start."""
    samples = [
        (gauge["clock_offset_ns"], gauge["clock_uncertainty_ns"]) for gauge in gauges if gauge["clock_uncertainty_ns"]
    ]
    if not samples:
        return None
    offset, uncertainty = samples[0]
    if shard.clock_offset_ns is not None and shard.clock_uncertainty_ns is not None:
        offset, uncertainty = shard.clock_offset_ns, shard.clock_uncertainty_ns
    return max(max(0, abs(now - offset) - now_uncertainty - uncertainty) for now, now_uncertainty in samples) / NS
