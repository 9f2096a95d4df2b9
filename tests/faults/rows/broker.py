"""The broker goes away and comes back, or a connection to it dies without a word."""

from loadgen.protocol.keys import ingest_queue, label_queue
from tests.faults.faults import IDLE, OWN, fault
from tests.faults.rig import Rig
from tests.faults.stack import PROXIED
from tests.support.shards import order_of, send_order
from tests.support.waiting import wait_for

RESTARTS = 5
# After its connections died without a word, a worker takes orders again within this.
HEARS_AGAIN_S = 40
UNKNOWN_SHARD = 999_999


@fault("broker restarted, workers idle", when=IDLE)
def restart_idle(rig: Rig) -> None:
    rig.restart_broker(kill=False)


@fault("broker killed and restarted, workers idle", when=IDLE)
def kill_idle(rig: Rig) -> None:
    rig.restart_broker(kill=True)


@fault("broker restarted, a shard runs")
def restart_running(rig: Rig) -> None:
    rig.restart_broker(kill=False)


@fault("broker killed and restarted, a shard runs")
def kill_running(rig: Rig) -> None:
    rig.restart_broker(kill=True)


@fault("broker restarted, an order waits for a worker that stands still", when=OWN)
def restart_order_waits(rig: Rig) -> None:
    go_on = rig.stop_for_now(rig.main_of(PROXIED))
    rig.begin()
    rig.wait_for_status("STARTING")
    rig.pause(2)
    rig.restart_broker(kill=False)
    rig.pause(2)
    go_on()


@fault("broker killed and restarted, an order waits for a worker that was killed", when=OWN)
def kill_order_waits(rig: Rig) -> None:
    rig.kill_family(PROXIED)
    rig.begin()
    # Its heartbeat has not expired yet.
    wait_for(lambda: rig.broker.llen(label_queue("worker_name", PROXIED)), "an order to wait for the worker")
    rig.restart_broker(kill=True)
    rig.start(PROXIED)


def batch_waits(rig: Rig, *, kill: bool) -> None:
    """Without ingest, batches wait in its queue; the broker restarts meanwhile."""
    rig.kill("ingest")
    wait_for(lambda: rig.broker.llen(ingest_queue(0, 1)), "a batch to wait for ingest")
    rig.restart_broker(kill=kill)
    rig.start("ingest")


@fault("broker restarted, a batch waits")
def restart_batch_waits(rig: Rig) -> None:
    batch_waits(rig, kill=False)


@fault("broker killed and restarted, a batch waits")
def kill_batch_waits(rig: Rig) -> None:
    batch_waits(rig, kill=True)


@fault("broker restarted five times in a row, a shard runs")
def restart_again_and_again(rig: Rig) -> None:
    for number in range(RESTARTS):
        rig.restart_broker(kill=bool(number % 2))
        rig.pause(1)


# Celery tries to come back at growing intervals, 12 s after half a minute.
@fault("broker away for 30 s", overtime_s=20)
def broker_away(rig: Rig) -> None:
    rig.stop_broker(kill=False)
    rig.pause(30)
    rig.start_broker()


@fault("half-open connections of a worker, idle", when=IDLE, overtime_s=30)
def half_open_idle(rig: Rig) -> None:
    half_open(rig)


@fault("half-open connections of a worker, a shard runs", overtime_s=25)
def half_open_running(rig: Rig) -> None:
    half_open(rig)


def half_open(rig: Rig) -> None:
    rig.proxy.freeze_established()
    rig.cleanup.callback(wait_until_it_hears, rig)


def wait_until_it_hears(rig: Rig) -> None:
    """An order that is void is taken from the worker's queue all the same."""
    queue = label_queue("worker_name", PROXIED)
    send_order(rig.galileo.redis, queue, order_of(UNKNOWN_SHARD, "nobody", void_after_broker_ns=1))
    wait_for(lambda: not rig.broker.llen(queue), "the worker to take an order", HEARS_AGAIN_S)
