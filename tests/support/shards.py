"""The controller's and ingest's part of a shard's life, by hand: documents, orders, batches from the queue."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import redis
from celery import Celery
from kombu import Connection
from kombu.simple import Empty

from loadgen.broker.options import celery_options, queue
from loadgen.protocol.codec import from_json, to_json, to_wire
from loadgen.protocol.keys import TASK_RUN_SHARD, ack_key, group_channel, group_key, ingest_progress_key, shard_key
from loadgen.protocol.messages import BatchHeader, GroupDocument, ShardOrder, ShardStatus, WorkloadSpec
from loadgen.protocol.request_ids import IDS_VERSION, request_id
from loadgen.protocol.settings import RedisSettings
from loadgen.protocol.trace_batch import MESSAGE_MAGIC, NO_TIME, decode, unpack_message
from routing.redis.table import RedisRoutingTable
from routing.table import RoutingRecord
from tests.support.records import Row, unpack, unshuffled
from tests.support.redis_server import RedisServer

SERVICE = "bench"


def order_of(shard_id: int, group_id: str, **fields: Any) -> ShardOrder:
    """An order for a shard with four clients."""
    values: dict[str, Any] = {"attempt": 1, "shard_index": 0, "experiment_id": None, "clients": [[0, 4, 1]]}
    values["void_after_broker_ns"] = 2**62
    return ShardOrder(shard_id=shard_id, group_id=group_id, **{**values, **fields})


def document_of(group_id: str, rate_rps: float = 100.0, duration_s: float = 1.0, **fields: Any) -> GroupDocument:
    """A document that says hold; `fields` replace what differs. An arrival is sent however late a busy machine is."""
    schedule = [[duration_s, rate_rps]]
    workload = WorkloadSpec(
        index=0, service=SERVICE, schedule=schedule, request_timeout_s=5.0, max_lateness_s=60.0, ids_version=IDS_VERSION
    )
    document = GroupDocument(1, group_id, None, "hold", seed=7, total_clients=4, workload=workload)
    return replace(document, **fields)


def put_document(client: redis.Redis, document: GroupDocument) -> None:
    """Projects a group's desired state and announces it."""
    fields = {"version": document.version, "document": to_json(document)}
    client.hset(group_key(document.group_id), mapping=fields)
    client.publish(group_channel(document.group_id), document.version)


def put_route(client: redis.Redis, hosts: dict[str, float], version: int = 1) -> None:
    RedisRoutingTable(client).write(RoutingRecord(SERVICE, list(hosts), list(hosts.values()), version))


def broker_ns(client: redis.Redis, ahead_s: float = 0.0) -> int:
    """The broker's time, or a time ahead of it."""
    seconds, microseconds = client.time()
    return seconds * 1_000_000_000 + microseconds * 1000 + round(ahead_s * 1e9)


def status_of(client: redis.Redis, shard_id: int) -> ShardStatus | None:
    text = client.get(shard_key(shard_id))
    return from_json(ShardStatus, text) if text else None


def state_of(client: redis.Redis, shard_id: int) -> str:
    """The state that the shard's status names; empty without one."""
    status = status_of(client, shard_id)
    return status.state if status else ""


def send_order(server: RedisServer, queue_name: str, order: ShardOrder | dict[str, Any]) -> None:
    """Puts an order on a worker's queue as the controller does."""
    app = Celery("tests", set_as_current=False, fixups=[])
    app.conf.update(celery_options(RedisSettings("127.0.0.1", server.port, server.password, server.username)))
    argument = order if isinstance(order, dict) else to_wire(order)
    app.send_task(TASK_RUN_SHARD, args=[argument], queue=queue(queue_name), ignore_result=True)
    app.close()


class Rows:
    """What some shards recorded, from their batches."""

    def __init__(self) -> None:
        self.headers: list[BatchHeader] = []
        self._records: list[Row] = []

    def add(self, header: BatchHeader, records: bytes) -> None:
        self.headers.append(header)
        self._records += unpack(records)

    def __len__(self) -> int:
        return len(self._records)

    def column(self, name: str) -> list[int]:
        return [getattr(record, name) for record in self._records]

    def sent_ids(self, group_id: str) -> list[str]:
        """Request ids of the rows that were sent."""
        sent = [record for record in self._records if record.sent_ns != NO_TIME]
        return [request_id(group_id, record.client, record.sequence) for record in sent]

    @property
    def final(self) -> BatchHeader | None:
        return next((header for header in self.headers if header.final), None)


class IngestByHand:
    """Takes batches from an ingest queue and acknowledges them."""

    def __init__(self, server: RedisServer, client: redis.Redis, queue_name: str = "galileo.ingest.0") -> None:
        self._client = client
        self._queue_name = queue_name
        self._connection = Connection(server.url)
        self._queue = self._connection.SimpleQueue(queue(queue_name), serializer="msgpack")
        self._queue.consumer.accept = {"application/x-msgpack"}
        self.rows = Rows()
        self.ids: list[str] = []

    def take(self, timeout_s: float = 0.2, *, acknowledge: bool = True) -> str | None:
        """The next batch's id, its rows added once; None if none came in time."""
        try:
            message = self._queue.get(timeout=timeout_s)
        except Empty:
            return None
        (data,), _, _ = message.payload
        message.ack()
        header, planes = decode(unpack_message(data), MESSAGE_MAGIC)
        name = header.id
        if name not in self.ids:
            self.ids.append(name)
            self.rows.add(header, unshuffled(planes))
        self._client.incr(ingest_progress_key(self._queue_name))
        if acknowledge:
            self.acknowledge(header.worker, name)
        return name

    def acknowledge(self, worker: str, name: str) -> None:
        self._client.rpush(ack_key(worker), name)

    def take_until_final(self, timeout_s: float = 30.0) -> BatchHeader:
        """Takes and acknowledges until a shard's final batch has come."""
        deadline = time.monotonic() + timeout_s
        while self.rows.final is None:
            assert time.monotonic() < deadline, f"no final batch among {self.ids}"
            self.take()
        return self.rows.final

    def close(self) -> None:
        self._queue.close()
        self._connection.release()

    def __enter__(self) -> IngestByHand:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
