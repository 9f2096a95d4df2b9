"""The one place from which the controller sends Celery messages: after the commit of the rows that they name."""

import logging
from functools import lru_cache

from celery import Celery
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from experiments.models import GroupState, Shard, ShardStatus
from experiments.services import broker
from loadgen.broker.options import celery_options, queue
from loadgen.protocol import codec, keys, messages

log = logging.getLogger(__name__)

# An order that its worker has not taken by then is void: the reconciler sends one for the next attempt. An order in a
# label's queue does not expire: the shard that takes it checks that its group still exists (loadgen/shard/runner.py).
ORDER_EXPIRES_NS = 30_000_000_000
# Of an attempt that takes over: it ends before the next is ordered, as two must not send the same arrivals.
TAKE_OVER_EXPIRES_NS = 8_000_000_000
KICK_EXPIRES_S = 2


@lru_cache(maxsize=1)
def _sender() -> Celery:
    app = Celery("galileo-dispatch", set_as_current=False)
    app.conf.update(celery_options(settings.SITE.redis))
    return app


def send_order(shard: Shard, clock_step_ns: int = 0) -> bool:
    """Sends the order of a PENDING shard to its worker or its label's queue after the commit.

    Args:
        clock_step_ns: by how much the broker's clock was set since the start of the running experiment.

    Returns whether this process, and no other, sends it.
    """
    if not Shard.objects.move(shard, ShardStatus.DISPATCHED, ordered_at=timezone.now()):
        return False
    takes_over = shard.attempt > 1 and shard.group.state == GroupState.RUN
    queue_name, void_after_broker_ns = shard.group.workload.queue, None
    if queue_name is None:
        assert shard.worker is not None  # it was placed
        queue_name = keys.label_queue("worker_name", shard.worker.name)
        void_after_broker_ns = broker.broker_now_ns() + (TAKE_OVER_EXPIRES_NS if takes_over else ORDER_EXPIRES_NS)
    order = messages.ShardOrder(
        shard_id=shard.id,
        attempt=shard.attempt,
        shard_index=shard.index,
        group_id=shard.group_id,
        experiment_id=shard.group.experiment_id,
        clients=shard.clients,
        void_after_broker_ns=void_after_broker_ns,
        takes_over=takes_over,
        clock_step_ns=clock_step_ns,
    )
    transaction.on_commit(lambda: _send(keys.TASK_RUN_SHARD, [codec.to_wire(order)], queue_name))
    return True


def kick_reconcile() -> None:
    """Triggers a reconciliation after the commit; without a broker, beat's next one follows."""
    transaction.on_commit(lambda: _send(keys.TASK_RECONCILE, [], keys.CONTROL_QUEUE, KICK_EXPIRES_S))


def _send(task: str, arguments: list[object], queue_name: str, expires_s: float | None = None) -> None:
    try:
        _sender().send_task(task, args=arguments, queue=queue(queue_name), expires=expires_s, retry=False)
    except OperationalError as error:
        # The reconciler sends it again from the row.
        log.warning("%s could not be sent to %s: %s", task, queue_name, error)
