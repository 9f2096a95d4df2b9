"""Marks in the spool's folder of the shards that run on this worker, for its agent: one small file for each."""

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
    """A shard and a process that runs it, or is about to: an order that is void, or a copy, never gets `leased`."""

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
        """Whether that very process (not a later one with its pid) is alive."""
        facts = facts_of(self.pid)
        return facts is not None and facts.started_ticks == self.started_ticks


def mark(directory: Path, order: ShardOrder, *, leased: bool = False) -> RunningShard:
    """Says that this process is about to run the shard, or, `leased`, that it does."""
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
    """All that are marked: the shards that run, and those whose process died before it could take its mark away."""
    shards = []
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        try:
            shards.append(RunningShard(**json.loads(path.read_text())))
        except FileNotFoundError:
            continue  # the shard has ended just now
        except (ValueError, TypeError) as error:
            logger.error("%s is no mark of a running shard (%s), removed", path, error)
            path.unlink(missing_ok=True)
    return shards


def siblings(directory: Path, order: ShardOrder) -> list[int]:
    """Pids of the other processes of this worker that run a shard of the order's experiment, or of its group where
    there is no experiment."""
    return [
        shard.pid
        for shard in marked_shards(directory)
        if shard.pid != os.getpid()
        and shard.is_alive()
        and (shard.group_id == order.group_id or shard.group_id.startswith(f"{order.experiment_id}."))
    ]
