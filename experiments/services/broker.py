"""Redis as seen by the controller: its clock, which is the time axis of an experiment, its locks and its replies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F
from django.utils import timezone
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from experiments.models import ENDED_SHARD_STATUSES, LIVE_WORKER_STATUSES, Experiment, Shard, Worker
from loadgen.protocol.keys import WORKER_TTL_S
from routing.errors import Unavailable
from routing.redis import redis_client

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START_KEY = "galileo:active:lock"
# A killed holder blocks the others for no longer; a living one needs far less.
TTL_S = 10.0
WITHIN_S = 15.0
_LOOK_EVERY_S = 0.02
# A change of an offset between two heartbeats that is a step, not drift.
STEP_NS = 1_000_000_000
MOST_DRIFT_NS = 100_000  # per second; two quartz clocks part by 50 µs
CLOCK_STEP = "clock step:"  # begins the key of an event of the timeline; the step since the load's start in ns follows


def broker_now_ns() -> int:
    """The Redis server's time in ns since the Unix epoch (resolution 1 µs). Raises redis.RedisError when it is away."""
    seconds, microseconds = redis_client().time()
    return int(seconds) * 1_000_000_000 + int(microseconds) * 1000


def to_datetime(broker_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=broker_ns // 1000)


def from_datetime(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1) * 1000


@dataclass(frozen=True)
class Reading:
    """The offsets of the broker's clock to one worker's monotonic clock, at a shard's start and at a heartbeat."""

    worker: str
    start_offset_ns: int
    offset_ns: int
    heartbeat_ns: int

    @property
    def step_ns(self) -> int:
        return self.offset_ns - self.start_offset_ns

    def is_fresh(self, now_ns: int) -> bool:
        """Whether the heartbeat was not long ago; not so, either, when the broker's clock was set since."""
        return 0 <= now_ns - self.heartbeat_ns <= WORKER_TTL_S * 1_000_000_000

    def heartbeat_elapsed_ns(self, start_broker_ns: int) -> int:
        """Time from the start to the heartbeat."""
        return self.heartbeat_ns - self.step_ns - start_broker_ns

    def elapsed_ns(self, start_broker_ns: int, now_ns: int) -> int:
        """Time since the start. A heartbeat that is older than the last step counts as one of now."""
        age_ns = now_ns - self.heartbeat_ns if self.is_fresh(now_ns) else 0
        return self.heartbeat_elapsed_ns(start_broker_ns) + age_ns


def elapsed_s(experiment: Experiment) -> float:
    """Time since the load's start; of several workers' clocks, the one that is furthest behind.

    Without a reading it is the time by the broker's clock, less its recorded step. Raises redis.RedisError.
    """
    start_ns = experiment.start_broker_ns
    assert start_ns is not None  # the load has a start
    now_ns = broker_now_ns()
    elapsed_ns = [reading.elapsed_ns(start_ns, now_ns) for reading in clock_readings(experiment)]
    if not elapsed_ns:
        return (now_ns - start_ns - recorded_step_ns(experiment)) / 1e9
    return min(elapsed_ns) / 1e9


def load_time(experiment: Experiment) -> datetime:
    """The present time on the axis of a load: its start, and the time since by its workers' clocks.

    So a step of a wall clock does not change it. Without fresh heartbeats it is the time by the broker's clock, less
    its step; before the start is known, and while the broker is away, that of this process.
    """
    start_ns = experiment.start_broker_ns
    if start_ns is None or experiment.started_at is None:
        return timezone.now()
    readings = clock_readings(experiment)
    try:
        now_ns = broker_now_ns()
    except RedisError:
        known_ns = max((reading.heartbeat_elapsed_ns(start_ns) for reading in readings), default=0)
        return max(timezone.now(), experiment.started_at + timedelta(microseconds=known_ns // 1000))
    fresh = [reading for reading in readings if reading.is_fresh(now_ns)]
    if fresh:
        elapsed_ns = max(reading.elapsed_ns(start_ns, now_ns) for reading in fresh)
    else:
        elapsed_ns = now_ns - start_ns - step_ns(experiment)
    return experiment.started_at + timedelta(microseconds=elapsed_ns // 1000)


def step_ns(experiment: Experiment) -> int:
    """By how much the broker's clock has been set since the load's start, as all live workers see it; 0 below 1 s.

    Without a reading, or while the readings differ, it is the recorded step.
    """
    step = common_step_ns(clock_readings(experiment))
    if step is None:
        return recorded_step_ns(experiment)
    return step if abs(step) >= STEP_NS else 0


def recorded_step_ns(experiment: Experiment) -> int:
    """The step since the load's start by the newest event of the timeline; 0 without one."""
    newest = experiment.events.filter(key__startswith=CLOCK_STEP).order_by("id").last()
    return int(newest.key.removeprefix(CLOCK_STEP).split(":")[0]) if newest else 0


def common_step_ns(readings: Sequence[Reading]) -> int | None:
    """The step that all readings have in common; None without one, as while only some heartbeats have come since."""
    steps = sorted(reading.step_ns for reading in readings)
    if not steps or steps[-1] - steps[0] >= STEP_NS:
        return None
    return steps[len(steps) // 2]


def present_clocks() -> dict[str, list[str | int]]:
    """Worker → its instance and the offset of its clock, of the workers whose heartbeat is not from before a step."""
    now_ns = broker_now_ns()
    rows = Worker.objects.live().values_list("name", "instance", "clock_offset_ns", "heartbeat_at")
    return {
        name: [instance, offset_ns]
        for name, instance, offset_ns, heartbeat_at in rows
        if abs(now_ns - from_datetime(heartbeat_at)) <= WORKER_TTL_S * 1_000_000_000
    }


def _readings_since(clocks: dict[str, list[Any]]) -> list[Reading]:
    """The readings of the workers whose clocks were noted at the start of an interactive experiment."""
    return [
        Reading(worker.name, clocks[worker.name][1], worker.clock_offset_ns, from_datetime(worker.heartbeat_at))
        for worker in Worker.objects.live().filter(name__in=list(clocks))
        if worker.instance == clocks[worker.name][0]
    ]


def clock_readings(experiment: Experiment) -> list[Reading]:
    """The readings of the shards that run, or of those that have ended when none runs.

    An interactive experiment begins long after the shards that it records: its readings are those of its workers.
    """
    if experiment.interactive:
        return _readings_since(experiment.clocks)
    rows = Shard.objects.filter(
        group__experiment=experiment, worker__status__in=LIVE_WORKER_STATUSES, worker__instance=F("worker_instance")
    ).values_list("status", "worker__name", "clock_offset_ns", "worker__clock_offset_ns", "worker__heartbeat_at")
    found = [
        (status in ENDED_SHARD_STATUSES, Reading(worker, start, now, from_datetime(heartbeat)))
        for status, worker, start, now, heartbeat in rows
        if start is not None
    ]
    running = [reading for has_ended, reading in found if not has_ended]
    return running or [reading for _, reading in found]


def as_text(value: bytes | str) -> str:
    """A reply of Redis, with `decode_responses` or without, as every database can store it."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text.replace("\0", "")


class LockTimeout(Unavailable):
    """Another process held the lock for too long."""


def shorten(key: str, ttl_s: float) -> None:
    """Lets a key expire within its TTL; after the broker's clock was set back, it would live for longer."""
    if redis_client().pttl(key) > ttl_s * 1000:
        redis_client().pexpire(key, round(ttl_s * 1000))


@contextmanager
def try_lock(key: str, ttl_s: float, within_s: float = 0.0) -> Iterator[Lock | None]:
    """Holds a lock that expires by itself; yields None when another process held it for all of `within_s`.

    Raises:
        redis.RedisError
    """
    lock = redis_client().lock(key, timeout=ttl_s, sleep=_LOOK_EVERY_S)
    if not lock.acquire(blocking=False):
        shorten(key, ttl_s)
        if not within_s or not lock.acquire(blocking_timeout=within_s):
            yield None
            return
    try:
        yield lock
    finally:
        with suppress(LockError, RedisError):  # it has expired, or will
            lock.release()


@contextmanager
def start_lock(within_s: float = WITHIN_S) -> Iterator[None]:
    """Holds the lock under which experiments are started, and groups that an experiment may have to record.

    Raises:
        LockTimeout
        redis.RedisError
    """
    with try_lock(_START_KEY, TTL_S, within_s) as lock:
        if lock is None:
            raise LockTimeout("other experiments or client groups are being started; try again")
        yield
