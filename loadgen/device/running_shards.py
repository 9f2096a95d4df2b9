"""RunningShard: a mark of a shard that runs on this worker, for its agent: a small file in the spool's folder."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from loadgen.device.process import facts_of
from loadgen.protocol.messages import ShardOrder

logger = logging.getLogger(__name__)

_SUFFIX = ".running"


@dataclass(frozen=True)
class RunningShard:
    """A shard and its process. `leased` is false until it has its lease, which a void or copied order never gets."""

    shard_id: int
    attempt: int
    group_id: str
    pid: int
    started_ticks: int
    leased: bool = False

    @property
    def file(self) -> str:
        return f"{self.shard_id}.{self.attempt}.{self.pid}{_SUFFIX}"

    def is_alive(self) -> bool:
        """Returns whether this process is alive; a later one with its pid does not count."""
        facts = facts_of(self.pid)
        return facts is not None and facts.started_ticks == self.started_ticks


def mark(directory: Path, order: ShardOrder, *, leased: bool = False) -> RunningShard:
    """Marks the shard as run by this process."""
    facts = facts_of(os.getpid())
    ticks = facts.started_ticks if facts else 0
    shard = RunningShard(order.shard_id, order.attempt, order.group_id, os.getpid(), ticks, leased)
    temporary = directory / f"{shard.file}.tmp"
    temporary.write_text(json.dumps(asdict(shard)))
    temporary.replace(directory / shard.file)
    return shard


def unmark(directory: Path, shard: RunningShard) -> None:
    (directory / shard.file).unlink(missing_ok=True)


def marked_shards(directory: Path) -> list[RunningShard]:
    """Returns all marked shards: those that run, and those whose process died before it could remove its mark."""
    shards = []
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        try:
            shards.append(RunningShard(**json.loads(path.read_text())))
        except FileNotFoundError:
            continue  # the shard has just ended
        except (ValueError, TypeError) as error:
            logger.error("%s is not a valid mark of a running shard (%s) and is removed", path, error)
            path.unlink(missing_ok=True)
    return shards


def siblings(directory: Path, order: ShardOrder) -> list[int]:
    """Returns the pids of this worker's other processes that run a shard of the order's experiment or group."""
    return [
        shard.pid
        for shard in marked_shards(directory)
        if shard.pid != os.getpid()
        and shard.is_alive()
        and (shard.group_id == order.group_id or shard.group_id.startswith(f"{order.experiment_id}."))
    ]
