"""DesiredStateReader: follows a shard's desired state in Redis, its group's document and its service's route.

Changes are announced on channels; announcements may be lost, so both are also read every second. While Redis is away,
nothing changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from loadgen.protocol.cancelled import raise_if_cancelled
from loadgen.protocol.codec import MessageError, from_json
from loadgen.protocol.enums import DesiredState
from loadgen.protocol.keys import group_channel, group_key
from loadgen.protocol.messages import GroupDocument
from loadgen.shard.clock import Clock
from routing.redis.table import UPDATES_CHANNEL, read_async
from routing.table import RoutingError, RoutingRecord

logger = logging.getLogger(__name__)

READ_EVERY_S = 1.0
_RECONNECT_S = 0.5


class DesiredStateReader:
    """Reads the newest document of a group and the route of its service, and reports each change.

    Args:
        on_document: called with each document of a higher version than the last one.
        on_route: called with each changed routing record, None when the service has none.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        group_id: str,
        on_document: Callable[[GroupDocument], None],
        on_route: Callable[[RoutingRecord | None], None],
        clock: Clock,
    ) -> None:
        self._client = client
        self._clock = clock
        self._group_id = group_id
        self._on_document = on_document
        self._on_route = on_route
        self._document: GroupDocument | None = None
        self._version: bytes | None = None  # of the document that was taken, or refused
        self._route: RoutingRecord | None = None
        self._route_known = False
        self._refused = ""  # why the record that is there was ignored; it is read every second, and logged once
        self._news = asyncio.Event()
        self.seen_ns = clock.monotonic_ns()  # when the document was last found in Redis
        self.renewed_ns = clock.monotonic_ns()  # when the controller was last seen to have renewed the group's lease
        self._renewals: bytes | None = None
        self.missing_since_ns: int | None = None  # since when Redis, which answers, has had no document

    async def is_wanted(self) -> bool:
        """Returns whether the group has a document, and is not to stop. Redis' errors pass through."""
        (text,) = await self._read("document")
        try:
            return text is not None and from_json(GroupDocument, text).state != DesiredState.STOP
        except MessageError:
            return True  # the next read reports the error

    async def first_document(self, timeout_s: float) -> GroupDocument:
        """Returns the group's document as soon as it is there.

        Raises:
            TimeoutError: it did not appear in time.
            MessageError: it cannot be read.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                raise_if_cancelled()
                try:
                    (text,) = await self._read("document")
                except RedisError as error:
                    logger.warning("the group's document cannot be read yet: %s", error)
                    text = None
                if text is not None:
                    self._document = from_json(GroupDocument, text)
                    return self._document
                await asyncio.sleep(READ_EVERY_S / 4)

    async def refresh(self) -> None:
        """Reads both once and reports what has changed. Redis' errors pass through."""
        version, renewals = await self._read("version", "renewals")
        if renewals != self._renewals:
            self._renewals, self.renewed_ns = renewals, self._clock.monotonic_ns()
        if version is not None:
            self.missing_since_ns = None
        elif self.missing_since_ns is None:
            self.missing_since_ns = self._clock.monotonic_ns()
        if version != self._version:  # a long plan is read and decoded once
            (text,) = await self._read("document")
            if text is not None:
                self._take_document(text)
                self._version = version
        # A Redis that was restarted empty has neither: that is not a change. Routes come back before documents do.
        if self._document is not None and version is not None:
            await self._read_route(self._document.workload.service)

    async def follow(self) -> None:
        """Keeps both up to date until cancelled."""
        listener = asyncio.create_task(self._listen())
        try:
            while True:
                raise_if_cancelled()
                try:
                    await self.refresh()
                except RedisError as error:
                    logger.warning("desired state cannot be read, the load goes on: %s", error)
                # Both are read although nothing is announced. Not by wait_for, which may swallow a cancel before
                # Python 3.12 (python/cpython#86296).
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(READ_EVERY_S):
                        await self._news.wait()
                self._news.clear()
        finally:
            listener.cancel()

    async def _listen(self) -> None:
        while True:
            raise_if_cancelled()
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(group_channel(self._group_id), UPDATES_CHANNEL)
                    self._news.set()  # for announcements before the subscription
                    while True:
                        raise_if_cancelled()
                        message = await pubsub.get_message(timeout=READ_EVERY_S)
                        if message is not None and self._concerns(message):
                            self._news.set()
            except (RedisError, OSError) as error:
                logger.info("announcements cannot be received, subscribing again: %s", error)
                await asyncio.sleep(_RECONNECT_S)

    def _concerns(self, message: dict[str, Any]) -> bool:
        """Returns whether an announcement is about this group or its service, not about another one's route."""
        if message["channel"] != UPDATES_CHANNEL.encode() or self._document is None:
            return True
        return bool(message["data"] == self._document.workload.service.encode())

    async def _read(self, *fields: str) -> list[bytes | None]:
        """Returns the fields; the first one exists if the document does."""
        # redis-py types a result as a value or an awaitable, whichever client it is (redis/redis-py#2399).
        reply: Any = self._client.hmget(group_key(self._group_id), fields)
        found: list[bytes | None] = await reply
        if found[0] is not None:
            self.seen_ns = self._clock.monotonic_ns()
        return found

    def _take_document(self, text: bytes) -> None:
        try:
            document = from_json(GroupDocument, text)
        except MessageError as error:
            logger.error("the group's new document is ignored: %s", error)
            return
        if self._document is None or document.version > self._document.version:
            self._document = document
            self._on_document(document)

    async def _read_route(self, service: str) -> None:
        try:
            route = await read_async(self._client, service)
        except RoutingError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                logger.error("the routing record is ignored, the last good one holds: %s", error)
            return
        self._refused = ""
        if self._route_known and route == self._route:
            return
        if route is None and (await self._read("version")) == [None]:
            return  # Redis was emptied between the two reads
        self._route, self._route_known = route, True
        self._on_route(route)
