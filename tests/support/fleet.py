"""The workers' part in the life of shards, played through Redis."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from datetime import timedelta

from django.utils import timezone

from experiments.models import Batch, Shard
from loadgen.protocol import keys
from loadgen.protocol.codec import from_wire, to_json
from loadgen.protocol.enums import ENDS, ShardState
from loadgen.protocol.messages import ClockSample, Counters, Gauges, ShardOrder, ShardStatus
from tests.support.workers import register


class Fleet:
    """Plays the workers: registrations, leases, statuses, and what ingest would store of their batches."""

    def __init__(self, broker):
        self.broker = broker

    def join(self, *names, **fields):
        for name in names:
            register(self.broker, name, **fields)

    def orders(self, name):
        """The orders that wait on a worker's own queue, oldest first."""
        return self.orders_in(keys.label_queue("worker_name", name))

    def orders_in(self, queue):
        """The orders that wait in a queue, oldest first."""
        return [_order(message) for message in reversed(self.broker.lrange(queue, 0, -1))]

    def take(self, worker, queue, state=ShardState.STARTING):
        """Has a worker take the oldest order from a queue, and its shard say how far it is."""
        order = _order(self.broker.rpop(queue))
        status = ShardStatus(order.shard_id, order.attempt, worker, 1, state)
        self.broker.set(keys.shard_key(order.shard_id), to_json(status))
        self.broker.set(keys.lease_key(order.shard_id), f"{order.attempt}:token", px=keys.LEASE_TTL_MS)
        return order

    def say(self, state, reason="", only=None, **fields):
        for shard in Shard.objects.not_ended().filter(**(only or {})):
            clock = ClockSample(offset_ns=5, uncertainty_ns=20_000)
            status = ShardStatus(shard.id, shard.attempt, shard.worker.name, 1, state, clock, 4096, reason, **fields)
            self.broker.set(keys.shard_key(shard.id), to_json(status))
            if state in ENDS:
                self.broker.delete(keys.lease_key(shard.id))
            else:
                self.broker.set(keys.lease_key(shard.id), f"{shard.attempt}:token", px=keys.LEASE_TTL_MS)

    def say_of(self, worker, state, reason=""):
        """As its agent says it of a shard that is dead, or the shard itself, whatever its row says."""
        shard = Shard.objects.get(worker__name=worker)
        status = ShardStatus(shard.id, shard.attempt, worker, 1, state, reason=reason)
        self.broker.set(keys.shard_key(shard.id), to_json(status))
        self.broker.delete(keys.lease_key(shard.id))
        Shard.objects.filter(id=shard.id).update(ordered_at=timezone.now() - timedelta(seconds=60))

    def die(self):
        for shard in Shard.objects.all():
            self.broker.delete(keys.lease_key(shard.id))

    def bring_batches(self):
        """As if each shard's only batch had been ingested; it held no rows."""
        counters, gauges = asdict(Counters()), asdict(Gauges())
        for shard in Shard.objects.all():
            Shard.objects.filter(id=shard.id).update(totals=counters, batches=1, final_state=ShardState.FINISHED)
            header = {"rows": 0, "received_at": timezone.now(), "counters": counters, "gauges": gauges}
            Batch.objects.get_or_create(shard=shard, attempt=shard.attempt, number=0, defaults=header)


def _order(message):
    arguments, *_ = json.loads(base64.b64decode(json.loads(message)["body"]))
    return from_wire(ShardOrder, arguments[0])
