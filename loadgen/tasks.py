"""The worker's one Celery task: run a shard."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from celery import shared_task

from loadgen.device.cores import usable_cores
from loadgen.device.process import follow_parent, take_short_turns
from loadgen.device.redis_connections import async_client
from loadgen.protocol.codec import MessageError, from_wire
from loadgen.protocol.enums import ShardState
from loadgen.protocol.keys import TASK_RUN_SHARD
from loadgen.protocol.messages import ShardOrder, ShardStatus, check_group_id
from loadgen.protocol.settings import WorkerSettings, read_worker
from loadgen.shard.lease import Fence
from loadgen.shard.runner import ShardRunner

run_loop: Callable[[Coroutine[Any, Any, None]], None]
try:
    from uvloop import run as run_loop
except ImportError:  # uvloop has no wheel for some boards; asyncio's own loop is slower
    run_loop = asyncio.run

logger = logging.getLogger(__name__)


@shared_task(name=TASK_RUN_SHARD)
def run_shard(order: Any) -> None:
    """Runs one attempt of a shard; `order` is a ShardOrder as a dict. An order that cannot be read is refused."""
    # Celery has its children killed with the main process; a shard seals what it has first.
    main_pid = os.getppid()
    follow_parent(signal.SIGTERM, main_pid)
    take_short_turns()
    try:
        _execute(order)
    finally:
        if not follow_parent(signal.SIGKILL, main_pid):
            os._exit(0)  # else the pool's code would wait half a minute for a main process that is dead


def _execute(order: Any) -> None:
    settings = read_worker(cores=usable_cores())
    try:
        decoded = from_wire(ShardOrder, order)
        check_group_id(decoded.group_id)  # it becomes part of file names
    except MessageError as error:
        logger.error("refused: %s", error)
        run_loop(_refuse(settings, order, str(error)))
        return
    run_loop(_run(settings, decoded))


async def _run(settings: WorkerSettings, order: ShardOrder) -> None:
    await ShardRunner(order, settings).run()


async def _refuse(settings: WorkerSettings, data: Any, reason: str) -> None:
    """Writes the reason to the shard's status, if the order names the shard."""
    fields = data if isinstance(data, dict) else {}
    shard_id, attempt = fields.get("shard_id"), fields.get("attempt")
    if not isinstance(shard_id, int) or not isinstance(attempt, int):
        return
    order = ShardOrder(shard_id, attempt, 0, str(fields.get("group_id")), None, [], 0)
    client = async_client(settings.redis)
    try:
        status = ShardStatus(shard_id, attempt, settings.name, os.getpid(), ShardState.FAILED, reason=reason)
        await Fence(client, order).write_status(status)
    finally:
        await client.aclose()
