"""Status changes: each is one conditional UPDATE, and returns whether this process made the change."""

from typing import Any

from experiments.models import Experiment, Shard


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
