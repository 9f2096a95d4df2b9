"""Supervisor: kills shards that do not stop or drain in time, and reports shards whose process died."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import redis

from loadgen.device.process import facts_of
from loadgen.device.running_shards import RunningShard, marked_shards, unmark
from loadgen.device.spool import Spool
from loadgen.protocol.codec import MessageError, from_json
from loadgen.protocol.enums import DesiredState, ShardState
from loadgen.protocol.keys import group_key
from loadgen.protocol.messages import GroupDocument, ShardStatus
from loadgen.shard.lease import declare_lost

logger = logging.getLogger(__name__)

RECONNECT = signal.SIGUSR2  # to the worker's main process (loadgen/agent/process.py)
RECONNECT_AFTER_S = 8.0
STOP_WITHIN_S = 5.0  # in addition to the group's grace
DRAIN_WITHIN_S = 10.0


class Supervisor:
    """Watches the shards of one worker, by their marks in the spool's folder. Errors of Redis pass through.

    Args:
        worker: the worker's name.
        queues: the queues from which the worker takes orders.
        slots: how many shards the worker runs at a time.
        worker_pid: the worker's main process; only it and its children are ever signalled.
    """

    def __init__(
        self,
        client: redis.Redis,
        spool: Spool,
        worker: str,
        queues: list[str],
        slots: int,
        worker_pid: int,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._client: Any = client  # redis-py types each result as a value or an awaitable
        self._spool = spool
        self._worker = worker
        self._queues = queues
        self._slots = slots
        self._waiting = 0  # orders in the queues, as counted last
        self._waiting_since_ns: int | None = None  # the time since when an order has waited although a slot was free
        self._worker_pid = worker_pid
        self._monotonic_ns = monotonic_ns
        self._documents: dict[str, tuple[bytes, GroupDocument | None]] = {}  # by group: version and content
        self._kill_at_ns: dict[str, int] = {}  # by stopped group: when the shards that still run are killed
        self._drain_began_ns: int | None = None
        self._told: set[RunningShard] = set()

    def shards(self) -> list[RunningShard]:
        """Returns the shards that run now."""
        return [shard for shard in marked_shards(self._spool.directory) if shard.is_alive()]

    def report_deaths(self) -> None:
        """Declares each shard lost whose process died without reporting an end, and then removes its mark.

        A death that cannot be reported now is reported later, at the latest after the worker's next start.
        """
        for shard in marked_shards(self._spool.directory):
            if shard.is_alive():
                continue
            if shard.leased:
                reason = f"its process {shard.pid} on {self._worker} died"
                status = ShardStatus(
                    shard.shard_id, shard.attempt, self._worker, shard.pid, ShardState.LOST, reason=reason
                )
                declare_lost(self._client, shard.group_id, status)
                self._spool.remove_begun(shard.group_id, shard.shard_id, shard.attempt)
                logger.warning("shard %s: %s", shard.shard_id, reason)
            unmark(self._spool.directory, shard)

    def enforce_stops(self) -> None:
        """Kills shards whose group has been stopped for longer than its grace."""
        now_ns = self._monotonic_ns()
        shards = self.shards()
        groups = {shard.group_id for shard in shards}
        self._kill_at_ns = {group: due_ns for group, due_ns in self._kill_at_ns.items() if group in groups}
        self._documents = {group: known for group, known in self._documents.items() if group in groups}
        for group in groups:
            document = self._document(group)
            if document is not None and document.state == DesiredState.STOP:
                due_ns = now_ns + int((document.stop_grace_s + STOP_WITHIN_S) * 1e9)
                self._kill_at_ns.setdefault(group, due_ns)
            elif document is not None:
                self._kill_at_ns.pop(group, None)
            # A stop that was seen counts even after the document has expired.
            if group in self._kill_at_ns and now_ns > self._kill_at_ns[group]:
                for shard in shards:
                    if shard.group_id == group:
                        self._signal(shard, signal.SIGKILL, "its group was stopped and the shard still runs")

    def reconnect_if_stuck(self) -> None:
        """Makes the main process reconnect when an order has waited for RECONNECT_AFTER_S although a slot is free.

        After a half-open connection, Celery's consumer may receive nothing while other connections work
        (celery/celery#10302, seen with 5.7). In a queue that several workers share, an order waits that long only if
        none of them receives it.
        """
        now_ns = self._monotonic_ns()
        pipeline = self._client.pipeline(transaction=False)
        for name in self._queues:
            pipeline.llen(name)
        before, self._waiting = self._waiting, sum(pipeline.execute())
        # A shrinking queue has a consumer, which may be this worker's.
        if not self._waiting or self._waiting < before or len(self.shards()) >= self._slots:
            self._waiting_since_ns = None
        elif self._waiting_since_ns is None:
            self._waiting_since_ns = now_ns
        elif now_ns - self._waiting_since_ns > RECONNECT_AFTER_S * 1e9:
            self._waiting_since_ns = now_ns
            logger.warning("an order has waited for %.0f s: the main process reconnects", RECONNECT_AFTER_S)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._worker_pid, RECONNECT)

    def drain(self) -> list[RunningShard]:
        """Ends running shards, and kills those that take too long. Returns the shards that still run."""
        now_ns = self._monotonic_ns()
        if self._drain_began_ns is None:
            self._drain_began_ns = now_ns
        shards = self.shards()
        for shard in shards:
            if now_ns - self._drain_began_ns > DRAIN_WITHIN_S * 1e9:
                self._signal(shard, signal.SIGKILL, "the worker shuts down and the shard does not end")
            elif shard not in self._told:
                self._told.add(shard)
                self._signal(shard, signal.SIGTERM, "the worker shuts down")
        return shards

    def _document(self, group_id: str) -> GroupDocument | None:
        version, document = self._client.hget(group_key(group_id), "version"), None
        if version is None:
            return None
        known = self._documents.get(group_id)
        if known is not None and known[0] == version:  # a long plan is read and decoded only once
            return known[1]
        text = self._client.hget(group_key(group_id), "document")
        try:
            document = from_json(GroupDocument, text) if text is not None else None
        except MessageError as error:
            logger.error("the document of group %s is ignored: %s", group_id, error)
        self._documents[group_id] = version, document
        return document

    def _signal(self, shard: RunningShard, signum: signal.Signals, why: str) -> None:
        facts = facts_of(shard.pid)
        # When the main process is dead, its shards have another parent, and must still be drained.
        orphaned = facts_of(self._worker_pid) is None
        if facts is None or facts.started_ticks != shard.started_ticks:
            return
        if facts.parent_pid != self._worker_pid and not orphaned:
            logger.error("process %s is not a child of this worker and is not signalled", shard.pid)
            return
        level = logging.WARNING if signum == signal.SIGKILL else logging.INFO
        logger.log(level, "shard %s (process %s): %s: %s", shard.shard_id, shard.pid, signum.name, why)
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(shard.pid, signum)
