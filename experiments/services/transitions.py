"""Status changes: each is one conditional UPDATE, and the caller learns whether it won."""

from datetime import datetime
from typing import Any

from django.db.models import Case, DateTimeField, F, Value, When

from experiments.models import Experiment, Shard

# The reason of a cancel, as long as whoever cancels has not said one.
CANCELLED_UNSAID = "its shards were told to stop"


def end_at(now: datetime) -> Case:
    """The value of `end` for an experiment that ends now: not before its start, which may lie ahead."""
    return Case(When(start__gt=now, then=F("start")), default=Value(now), output_field=DateTimeField())


def move_experiment(experiment_id: str, source: str, target: str, **fields: Any) -> bool:
    """Moves an experiment from `source` to `target` and sets `fields`; False when another process was first."""
    changed = Experiment.objects.filter(id=experiment_id, status=source).update(status=target, **fields)
    return changed == 1


def move_shard(shard: Shard, target: str, **fields: Any) -> bool:
    """Moves a shard on from the status and attempt that `shard` holds; False when another process was first.

    The object is brought up to date when the change was made.
    """
    changed = Shard.objects.filter(id=shard.id, status=shard.status, attempt=shard.attempt).update(
        status=target, **fields
    )
    if changed != 1:
        return False
    shard.status = target
    for name, value in fields.items():
        setattr(shard, name, value)
    return True
