"""The time of a running load by its workers' monotonic clocks: a step of the broker's clock does not move it.

The offset by which a shard mapped its start is in its row, and the present offset of the same monotonic clock comes
with each heartbeat of its worker. The difference of the two is the step of the broker's clock since the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F

from experiments.models import ENDED_SHARD_STATUSES, LIVE_WORKER_STATUSES, Experiment, Shard
from experiments.services import events
from experiments.services.broker import EPOCH, broker_now_ns
from loadgen.protocol.keys import WORKER_TTL_S

# A change of the offset that is no drift of a quartz clock: 50 µs a second are 4 s a day, and loads are shorter.
STEP_NS = 1_000_000_000
STEPPED = "broker clock stepped"
_KEY = "clock step:"


@dataclass(frozen=True)
class _Reading:
    """What a live worker's heartbeat says of the clock of one of its shards."""

    worker: str
    start_offset_ns: int
    offset_ns: int
    heartbeat_ns: int

    @property
    def step_ns(self) -> int:
        return self.offset_ns - self.start_offset_ns

    def elapsed_ns(self, start_broker_ns: int, now_ns: int) -> int:
        """Time since the start. A heartbeat that is older than the last step counts as one of now."""
        at_heartbeat_ns = self.heartbeat_ns - self.step_ns - start_broker_ns
        age_ns = now_ns - self.heartbeat_ns
        return at_heartbeat_ns + (age_ns if 0 <= age_ns <= WORKER_TTL_S * 1_000_000_000 else 0)


def elapsed_s(experiment: Experiment) -> float:
    """Time since the load's start; of several workers' clocks, the one that is furthest behind.

    Without a live worker it is the time by the broker's clock. Raises redis.RedisError.
    """
    start_ns = experiment.start_broker_ns
    assert start_ns is not None  # the load has a start
    now_ns = broker_now_ns()
    elapsed_ns = [reading.elapsed_ns(start_ns, now_ns) for reading in _readings(experiment)]
    return min(elapsed_ns, default=now_ns - start_ns) / 1e9


def step_ns(experiment: Experiment) -> int:
    """By how much the broker's clock has been set since the load's start, as all live workers see it; 0 for drift."""
    step = _agreed(_readings(experiment))
    return step if step is not None and abs(step) >= STEP_NS else 0


def record_step(experiment: Experiment) -> None:
    """Adds a step of the broker's clock to the timeline, once for each amount."""
    readings = _readings(experiment)
    step = _agreed(readings)
    if step is None:
        return
    recorded = experiment.events.filter(key__startswith=_KEY).order_by("id").values_list("key", flat=True)
    before_ns = int(recorded[len(recorded) - 1].removeprefix(_KEY).split(":")[0]) if recorded else 0
    if abs(step - before_ns) < STEP_NS:
        return
    workers = ", ".join(sorted({reading.worker for reading in readings}))
    value = (
        f"by {(step - before_ns) / 1e9:+.6g} s against the monotonic clock of {workers}: the load's times count on "
        "from its start, telemetry has the new time"
    )
    events.record(experiment.id, STEPPED, value, key=f"{_KEY}{step}:{len(recorded)}")


def _agreed(readings: Sequence[_Reading]) -> int | None:
    """The step that all readings have in common; None without one, as while only some heartbeats have come since."""
    steps = sorted(reading.step_ns for reading in readings)
    if not steps or steps[-1] - steps[0] >= STEP_NS:
        return None
    return steps[len(steps) // 2]


def _readings(experiment: Experiment) -> list[_Reading]:
    """The readings of the shards that run, or of those that have ended when none runs."""
    rows = Shard.objects.filter(
        group__experiment=experiment, worker__status__in=LIVE_WORKER_STATUSES, worker__instance=F("worker_instance")
    ).values_list("status", "worker__name", "clock_offset_ns", "worker__clock_offset_ns", "worker__heartbeat_at")
    found = [
        (status in ENDED_SHARD_STATUSES, _Reading(worker, start, now, _ns(heartbeat)))
        for status, worker, start, now, heartbeat in rows
        if start is not None
    ]
    running = [reading for has_ended, reading in found if not has_ended]
    return running or [reading for _, reading in found]


def _ns(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1) * 1000
