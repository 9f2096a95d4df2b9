"""RedisIngest: sends batches to ingest as Celery messages, and reads its answers from Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from loadgen.agent.forwarder import BrokerAwayError
from loadgen.broker.options import celery_options, queue
from loadgen.device.spool import BatchName
from loadgen.protocol.keys import TASK_INGEST_BATCH, ack_key, ingest_progress_key
from loadgen.protocol.settings import WorkerSettings

_ANSWERS_AT_ONCE = 500

Result = TypeVar("Result")


class RedisIngest:
    """Implements forwarder.Ingest, which describes the methods."""

    def __init__(self, settings: WorkerSettings, client: redis.Redis) -> None:
        self._client: Any = client  # redis-py types results as awaitable, too (redis/redis-py#2399)
        self._answers = ack_key(settings.name)
        self._app = Celery("loadgen-agent", set_as_current=False, fixups=[])
        self._app.conf.update(celery_options(settings.redis))

    def send(self, queue_name: str, name: BatchName, data: bytes) -> None:
        # Given a direct queue, Celery publishes to it by name, without bindings, which Redis may have lost.
        self._reach(
            lambda: self._app.send_task(
                TASK_INGEST_BATCH,
                args=(data,),
                argsrepr=f"(<batch {name.id}, {len(data)} bytes>,)",
                kwargsrepr="{}",
                queue=queue(queue_name),
                serializer="msgpack",
                ignore_result=True,
                retry=False,
            )
        )

    def pop_answers(self, wait_s: float) -> list[str]:
        def pop() -> list[bytes]:
            answers: list[bytes] = self._client.lpop(self._answers, _ANSWERS_AT_ONCE) or []
            if not answers and wait_s > 0:
                first = self._client.blpop([self._answers], timeout=wait_s)
                answers = [first[1]] if first else []
            return answers

        return [answer.decode(errors="replace") for answer in self._reach(pop)]

    def progress(self, queue_name: str) -> int:
        return self._reach(lambda: int(self._client.get(ingest_progress_key(queue_name)) or 0))

    def waiting(self, queue_name: str) -> int:
        return self._reach(lambda: int(self._client.llen(queue_name)))

    def close(self) -> None:
        self._app.close()
        self._client.close()

    def _reach(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except (RedisError, OperationalError, OSError) as error:
            raise BrokerAwayError(str(error)) from error
