"""Placement `queue`: shards wait in a label's queue for whoever is free; the workers' part is played through Redis."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from experiments.analysis.report import build
from experiments.models import ClientGroup, Event, Experiment, Shard, Worker
from experiments.plans import parse_group
from experiments.selectors import live_workers
from experiments.services import ending, experiments, groups, placement, shards, workers
from experiments.services.placement import NoFreeSlot
from experiments.services.reconcile import reconcile
from experiments.services.workers import NoMatchingWorkers
from loadgen.protocol import keys
from loadgen.protocol.enums import ShardState
from loadgen.protocol.keys import WORKERS_KEY, worker_key
from tests.support.plans import plan

pytestmark = [pytest.mark.costly, pytest.mark.django_db(transaction=True)]

ZONE = keys.label_queue("zone", "A")
QUEUED = {"placement": "queue", "worker_labels": {"zone": "A"}, "shards": 2}
LONG_AGO = timedelta(seconds=60)


@pytest.fixture
def waiting_experiment(fleet, make_experiment):
    """An experiment of two shards that wait in the queue of zone A; no worker is there yet."""
    experiment = make_experiment(**QUEUED)
    reconcile()
    return experiment


@pytest.fixture
def running(fleet, waiting_experiment):
    """The same, taken by one worker each, and running."""
    fleet.join("pi-1", "pi-2")
    for name in ("pi-1", "pi-2"):
        fleet.take(name, ZONE, ShardState.READY)
    reconcile()
    fleet.say(ShardState.RUNNING)
    reconcile()
    assert status(waiting_experiment) == "RUNNING"
    return waiting_experiment


def status(experiment):
    experiment.refresh_from_db()
    return experiment.status


def held():
    """(worker, status, attempt) of each shard, in their order."""
    return list(Shard.objects.order_by("index").values_list("worker__name", "status", "attempt"))


def kill(fleet, name):
    """A worker dies with all that runs on it, and is found out."""
    fleet.broker.delete(worker_key(name))
    for shard in Shard.objects.filter(worker__name=name):
        fleet.broker.delete(keys.lease_key(shard.id))


def time_passes():
    """The orders were given long ago, and the looks since then found what they would find now."""
    Shard.objects.update(ordered_at=timezone.now() - LONG_AGO)
    Shard.objects.exclude(missed_since=None).update(missed_since=timezone.now() - LONG_AGO)


class TestWaiting:
    def test_orders_of_a_queue_need_no_worker_and_do_not_expire(self, fleet, waiting_experiment):
        orders = fleet.orders_in(ZONE)
        assert [(order.attempt, order.void_after_broker_ns, order.clients) for order in orders] == [
            (1, None, [[0, 3, 2]]),
            (1, None, [[1, 3, 2]]),
        ]
        assert status(waiting_experiment) == "STARTING"
        assert held() == [(None, "DISPATCHED", 1)] * 2

    def test_a_name_is_a_label_too(self, fleet, make_experiment):
        make_experiment(placement="queue", worker_labels={"worker_name": "pi-9"}, shards=2)
        reconcile()
        assert len(fleet.orders("pi-9")) == 2

    def test_only_balanced_workloads_need_workers_at_submission(self, broker):
        experiments.check_workers(plan(**QUEUED))
        with pytest.raises(NoMatchingWorkers, match="no worker is running"):
            experiments.check_workers(plan(worker_labels={"zone": "A"}))

    def test_it_starts_when_the_last_shard_is_ready(self, fleet, waiting_experiment):
        fleet.join("pi-1")
        fleet.take("pi-1", ZONE, ShardState.READY)
        reconcile()
        assert status(waiting_experiment) == "STARTING"
        assert held() == [("pi-1", "READY", 1), (None, "DISPATCHED", 1)]
        fleet.join("pi-2")
        fleet.take("pi-2", ZONE, ShardState.READY)
        reconcile()
        assert status(waiting_experiment) == "RUNNING"
        assert held() == [("pi-1", "READY", 1), ("pi-2", "READY", 1)]

    def test_one_worker_may_take_all(self, fleet, waiting_experiment):
        fleet.join("pi-1")
        for _ in range(2):
            fleet.take("pi-1", ZONE, ShardState.READY)
        reconcile()
        assert held() == [("pi-1", "READY", 1)] * 2

    def test_taken_shard_occupies_a_slot_of_its_worker(self, fleet, waiting_experiment):
        fleet.join("pi-1", slots=1)
        reconcile()
        assert [load.used_slots for load in live_workers()] == [0]
        fleet.take("pi-1", ZONE)
        reconcile()
        assert held()[0] == ("pi-1", "DISPATCHED", 1)
        assert [load.used_slots for load in live_workers()] == [1]
        with pytest.raises(NoFreeSlot, match=f"held by {waiting_experiment.id}.0"):
            placement.place({}, 1)

    def test_a_taker_that_has_not_registered_yet_is_noted_later(self, fleet, waiting_experiment):
        fleet.take("pi-1", ZONE, ShardState.READY)
        reconcile()
        assert held()[0] == (None, "DISPATCHED", 1)
        fleet.join("pi-1")
        reconcile()
        assert held()[0] == ("pi-1", "READY", 1)
        assert Shard.objects.get(index=0).worker_instance == "pi-1-1"

    def test_untaken_shards_fail_it_with_number_and_queue(self, fleet, waiting_experiment):
        fleet.join("pi-1")
        fleet.take("pi-1", ZONE)
        reconcile()
        Experiment.objects.update(starting_at=timezone.now() - timedelta(seconds=61))
        reconcile()
        assert (status(waiting_experiment), waiting_experiment.final_status) == ("FINALIZING", "FAILED")
        assert waiting_experiment.reason == (
            "1 shard(s) on pi-1 did not get ready, and 1 shard(s) in the queue galileo_zone=A were not taken by any "
            "worker within 60 s"
        )

    def test_an_order_that_waits_is_not_given_again(self, fleet, waiting_experiment):
        for _ in range(3):
            time_passes()
            reconcile()
        assert [order.attempt for order in fleet.orders_in(ZONE)] == [1, 1]

    def test_order_of_a_dead_worker_is_sent_again(self, fleet, waiting_experiment):
        fleet.broker.delete(ZONE)
        Shard.objects.update(ordered_at=timezone.now() - LONG_AGO)
        reconcile()
        assert fleet.orders_in(ZONE) == []
        time_passes()
        reconcile()
        assert [order.attempt for order in fleet.orders_in(ZONE)] == [2, 2]
        assert held() == [(None, "DISPATCHED", 2)] * 2

    def test_filled_queue_restarts_the_wait(self, fleet, waiting_experiment):
        kept = fleet.broker.lrange(ZONE, 0, -1)
        fleet.broker.delete(ZONE)
        Shard.objects.update(ordered_at=timezone.now() - LONG_AGO)
        reconcile()
        assert Shard.objects.filter(missed_since=None).count() == 0
        fleet.broker.rpush(ZONE, *kept)
        reconcile()
        assert Shard.objects.filter(missed_since=None).count() == 2

    def test_silent_taken_shard_is_ordered_again(self, fleet, waiting_experiment):
        fleet.join("pi-1")
        order = fleet.take("pi-1", ZONE)
        reconcile()
        fleet.broker.delete(keys.lease_key(order.shard_id))
        time_passes()
        reconcile()
        assert held() == [(None, "DISPATCHED", 2), (None, "DISPATCHED", 1)]
        assert [(order.shard_id, order.attempt) for order in fleet.orders_in(ZONE)][-1] == (order.shard_id, 2)

    def test_order_in_a_lost_workers_queue_is_sent_again(self, fleet, make_experiment):
        fleet.join("pi-9")
        make_experiment(placement="queue", worker_labels={"worker_name": "pi-9"}, shards=1)
        reconcile()
        kill(fleet, "pi-9")
        reconcile()
        reconcile()
        assert (Worker.objects.get().status, fleet.orders("pi-9")) == ("LOST", [])
        time_passes()
        reconcile()
        time_passes()
        reconcile()
        assert [order.attempt for order in fleet.orders("pi-9")] == [2]

    def test_without_workers_the_default_router_needs_a_route(self, fleet, make_experiment):
        experiment = make_experiment(**QUEUED, routing=[])
        reconcile()
        assert status(experiment) == "FAILED"
        assert "has no routing record" in experiment.reason
        static = make_experiment(**QUEUED, routing=[], router="static")
        reconcile()
        assert status(static) == "STARTING"

    def test_unreadable_order_fails_it(self, fleet, waiting_experiment):
        fleet.join("pi-1")
        fleet.take("pi-1", ZONE, ShardState.FAILED)
        reconcile()
        assert (status(waiting_experiment), held()[0]) == ("FINALIZING", ("pi-1", "FAILED", 1))


class TestEnd:
    def test_cancel_while_orders_wait_ends_it(self, fleet, broker, waiting_experiment):
        fleet.join("pi-1")
        fleet.take("pi-1", ZONE, ShardState.READY)
        reconcile()
        ending.cancel(waiting_experiment.id, "by test")
        fleet.say(ShardState.STOPPED, "stopped", only={"worker__name": "pi-1"})
        Experiment.objects.update(finalizing_at=timezone.now() - LONG_AGO)
        reconcile()
        Experiment.objects.update(finalizing_at=timezone.now() - 2 * LONG_AGO)
        reconcile()
        assert (status(waiting_experiment), waiting_experiment.reason) == ("CANCELLED", "by test")
        assert held() == [("pi-1", "STOPPED", 1), (None, "LOST", 1)]
        assert Shard.objects.get(index=1).reason == "no worker took its order"
        report = build(waiting_experiment, [])
        assert [worker["worker"] for worker in report["summary"]["workers"]] == ["pi-1"]
        assert [shard["worker"] for shard in report["summary"]["shards"]] == ["pi-1", None]
        reasons = [reason["sentence"] for reason in report["summary"]["verdict"]["reasons"]]
        assert f"shard {waiting_experiment.id}.0/1 was lost: no worker took its order" in reasons
        # What waits in the queue finds the stop, or nothing.
        assert len(fleet.orders_in(ZONE)) == 1
        assert b'"state":"stop"' in broker.hget(keys.group_key(f"{waiting_experiment.id}.0"), "document")

    def test_lost_worker_loses_its_shard_and_the_rest_continues(self, fleet, running):
        kill(fleet, "pi-1")
        fleet.say(ShardState.RUNNING, only={"worker__name": "pi-2"})
        for _ in range(3):
            reconcile()
        assert held() == [("pi-1", "LOST", 1), ("pi-2", "RUNNING", 1)]
        assert "worker pi-1 was lost" in Event.objects.get(name="shard lost").value

    def test_replace_orders_a_lost_shard_from_the_queue(self, fleet, running):
        ClientGroup.objects.update(on_worker_loss="replace", version=F("version") + 1)
        kill(fleet, "pi-1")
        fleet.broker.srem(WORKERS_KEY, "pi-1")
        Shard.objects.update(ordered_at=timezone.now() - LONG_AGO)
        for _ in range(4):
            fleet.say(ShardState.RUNNING, only={"worker__name": "pi-2"})
            reconcile()
        assert held() == [(None, "DISPATCHED", 2), ("pi-2", "RUNNING", 1)]
        again = Event.objects.get(name="shard ordered again").value
        assert again == f"{running.id}.0/0: attempt 2 in the queue galileo_zone=A"
        fleet.join("pi-3")
        order = fleet.take("pi-3", ZONE, ShardState.RUNNING)
        assert (order.attempt, order.takes_over, order.void_after_broker_ns) == (2, True, None)
        reconcile()
        assert held() == [("pi-3", "RUNNING", 2), ("pi-2", "RUNNING", 1)]
        assert status(running) == "RUNNING"

    def test_queued_order_is_lost_at_the_plans_end(self, fleet, running):
        ClientGroup.objects.update(on_worker_loss="replace", version=F("version") + 1)
        fleet.say_of("pi-1", ShardState.LOST, "its process 7 on pi-1 died")
        reconcile()
        assert held()[0] == (None, "DISPATCHED", 2)
        Shard.objects.update(ordered_at=timezone.now() - LONG_AGO)
        fleet.say(ShardState.FINISHED, only={"worker__name": "pi-2"})
        Experiment.objects.update(start_broker_ns=F("start_broker_ns") - 10_000_000_000)
        reconcile()
        assert held() == [(None, "LOST", 2), ("pi-2", "FINISHED", 1)]
        assert (status(running), running.final_status) == ("FINALIZING", "FINISHED")

    def test_a_full_run_finishes(self, fleet, running):
        fleet.say(ShardState.FINISHED)
        fleet.bring_batches()
        reconcile()
        assert status(running) == "FINISHED"
        assert [worker["worker"] for worker in running.summary["workers"]] == ["pi-1", "pi-2"]


class TestGroups:
    def spawn(self, **fields):
        data = {"service": "s", "num": 4, "placement": "queue", "worker_labels": {"zone": "A"}, "shards": 2, **fields}
        return groups.spawn(parse_group(data), "tester")

    def test_group_clients_wait_until_all_shards_are_taken(self, fleet):
        group = self.spawn()
        assert groups.follow(group.id).interactive_part.active == []
        fleet.join("pi-1", "pi-2")
        workers.sync_workers()
        fleet.take("pi-1", ZONE, ShardState.READY)
        assert groups.follow(group.id).interactive_part.active == []
        members = list(group.shards.order_by("index"))
        assert placement.unready(members) == "1 shard(s) in the queue galileo_zone=A were not taken by any worker"
        fleet.take("pi-2", ZONE, ShardState.READY)
        assert groups.follow(group.id).interactive_part.active == [[0, 4]]
        assert held() == [("pi-1", "READY", 1), ("pi-2", "READY", 1)]

    def test_document_is_written_before_the_orders(self, fleet, broker, monkeypatch):
        seen = []
        monkeypatch.setattr(
            "experiments.services.sending._send", lambda *_: seen.append(len(broker.keys(keys.group_key("g-*"))))
        )
        self.spawn()
        assert seen == [1, 1]

    def test_added_clients_get_at_most_one_shard_each(self, fleet):
        group = self.spawn()
        groups.add(group.id, 3)
        groups.add(group.id, 1)
        assert [order.clients for order in fleet.orders_in(ZONE)] == [
            [[0, 4, 2]],
            [[1, 4, 2]],
            [[4, 7, 2]],
            [[5, 7, 2]],
            [[7, 8, 1]],
        ]

    def test_a_closed_group_does_not_wait_for_what_nobody_took(self, fleet, broker):
        group = self.spawn()
        groups.close(group.id)
        Shard.objects.update(ordered_at=timezone.now() - LONG_AGO)
        group = groups.follow(group.id)
        assert group.interactive_part.ended_at is not None
        assert set(held()) == {(None, "LOST", 1)}
        assert not broker.exists(keys.group_key(group.id))

    def test_waiting_order_is_kept_while_the_group_is_open(self, fleet):
        group = self.spawn()
        Shard.objects.update(ordered_at=timezone.now() - LONG_AGO, attempt=shards.MAX_ATTEMPTS)
        assert groups.follow(group.id).interactive_part.ended_at is None
        fleet.broker.delete(ZONE)
        groups.follow(group.id)
        Shard.objects.update(missed_since=timezone.now() - LONG_AGO)
        groups.follow(group.id)
        assert ClientGroup.objects.get(id=group.id).interactive_part.ended_at is not None
