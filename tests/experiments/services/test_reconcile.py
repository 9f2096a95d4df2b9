"""The life of an experiment, moved by reconciliation alone; the workers' part is played through Redis."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone
from redis.exceptions import RedisError

from experiments.models import ClientGroup, Event, Experiment, ExperimentStatus, Shard
from experiments.services import desired, ending, lifecycle, shards, workers
from experiments.services.reconcile import _STEPS, LOCK_KEY, reconcile
from loadgen.protocol import keys
from loadgen.protocol.codec import from_json, to_json
from loadgen.protocol.enums import ShardState
from loadgen.protocol.keys import WORKERS_KEY, worker_key
from loadgen.protocol.messages import ClockSample, GroupDocument, ShardStatus
from tests.support.foreign_routes import remove_route, set_route

pytestmark = [pytest.mark.costly, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def started(fleet, make_experiment):
    fleet.join("pi-1", "pi-2")
    experiment = make_experiment()
    reconcile()
    fleet.say(ShardState.READY)
    reconcile()
    experiment.refresh_from_db()
    assert experiment.status == "RUNNING"
    return experiment


def status(experiment):
    experiment.refresh_from_db()
    return experiment.status


def desired_states(broker):
    return {
        from_json(GroupDocument, broker.hget(keys.group_key(group.id), "document")).state
        for group in ClientGroup.objects.all()
    }


def test_oldest_experiment_is_ordered_and_the_next_waits(fleet, make_experiment):
    fleet.join("pi-1", "pi-2")
    first, second = make_experiment(), make_experiment()
    Experiment.objects.filter(id=second.id).update(created_at=first.created_at + timedelta(seconds=1))
    reconcile()
    reconcile()
    assert (status(first), status(second)) == ("STARTING", "QUEUED")
    (order,) = fleet.orders("pi-1")
    assert (order.group_id, order.attempt, order.clients) == (f"{first.id}.0", 1, [[0, 3, 2]])
    assert len(fleet.orders("pi-2")) == 1


def test_nothing_starts_before_every_shard_is_ready(fleet, make_experiment):
    fleet.join("pi-1", "pi-2")
    experiment = make_experiment()
    reconcile()
    fleet.say(ShardState.READY, only={"worker__name": "pi-1"})
    reconcile()
    assert status(experiment) == "STARTING"
    fleet.say(ShardState.READY)
    reconcile()
    assert status(experiment) == "RUNNING"


def test_all_groups_start_together_in_the_brokers_clock(broker, started):
    seconds, microseconds = broker.time()
    ahead_ns = started.start_broker_ns - (seconds * 10**9 + microseconds * 1000)
    assert 2_000_000_000 < ahead_ns <= lifecycle.START_AHEAD_NS
    document = from_json(GroupDocument, broker.hget(keys.group_key(f"{started.id}.0"), "document"))
    assert (document.state, document.start_broker_ns) == ("run", started.start_broker_ns)


def test_an_experiment_finishes_when_all_named_batches_are_there(fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.say(ShardState.FINISHED)
    reconcile()
    assert status(started) == "FINALIZING"
    fleet.bring_batches()
    reconcile()
    assert status(started) == "FINISHED"
    assert started.summary["verdict"]["status"]
    names = (
        Event.objects.filter(experiment=started).exclude(name="routing").order_by("id").values_list("name", flat=True)
    )
    assert list(names) == ["queued", "starting", "running", "finalizing", "finished"]


def test_nothing_of_an_ended_experiment_is_left_in_redis(broker, fleet, started):
    fleet.say(ShardState.FINISHED)
    fleet.bring_batches()
    reconcile()
    assert status(started) == "FINISHED"
    assert broker.keys("galileo:group:*") == broker.keys("galileo:shard:*") == []


def test_missing_batches_are_waited_for_until_the_deadline(fleet, started):
    fleet.say(ShardState.FINISHED)
    reconcile()
    reconcile()
    assert status(started) == "FINALIZING"
    Experiment.objects.update(finalizing_at=timezone.now() - timedelta(seconds=61))
    reconcile()
    assert status(started) == "FINISHED"
    assert started.summary["verdict"]["status"] == "INVALID"


def test_the_next_experiment_starts_when_the_first_has_ended(fleet, started, make_experiment):
    second = make_experiment()
    fleet.say(ShardState.FINISHED)
    fleet.bring_batches()
    reconcile()
    assert (status(started), status(second)) == ("FINISHED", "STARTING")


def test_failed_shard_fails_the_experiment_and_stops_others(broker, fleet, started):
    fleet.say(ShardState.RUNNING)
    fleet.say(ShardState.FAILED, "app squeezenet: KeyError: 'size'", only={"worker__name": "pi-1"})
    reconcile()
    assert status(started) == "RUNNING"  # the others run to their end
    fleet.say(ShardState.FINISHED)
    reconcile()
    assert (status(started), started.final_status) == ("FINALIZING", "FAILED")
    assert "KeyError: 'size'" in started.reason


def test_shard_failure_before_the_start_fails_at_once(broker, fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment()
    reconcile()
    fleet.say(ShardState.FAILED, "app squeezenet was not found")
    reconcile()
    assert (status(experiment), experiment.final_status) == ("FINALIZING", "FAILED")
    assert "app squeezenet was not found" in experiment.reason
    assert desired_states(broker) == {"stop"}


def test_a_silent_shard_is_ordered_again_under_the_next_attempt(fleet, make_experiment):
    fleet.join("pi-1")
    make_experiment()
    reconcile()
    Shard.objects.update(ordered_at=timezone.now() - timedelta(seconds=11))
    reconcile()
    assert [order.attempt for order in fleet.orders("pi-1")] == [1, 2]


def test_what_an_older_attempt_says_is_not_heard(broker, fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment()
    reconcile()
    fleet.say(ShardState.READY)
    Shard.objects.update(attempt=2)
    reconcile()
    assert status(experiment) == "STARTING"


def test_shards_that_never_get_ready_fail_the_experiment_in_time(fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment()
    reconcile()
    Experiment.objects.update(starting_at=timezone.now() - timedelta(seconds=61))
    reconcile()
    assert status(experiment) in ("FINALIZING", "FAILED")
    assert "pi-1 did not get ready within 60 s" in experiment.reason


def test_service_without_a_route_fails_the_experiment(fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment(routing=[])
    reconcile()
    assert status(experiment) == "FAILED"
    assert "manage.py set_route web" in experiment.reason


def test_label_without_workers_fails_the_experiment(fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment(worker_labels={"zone": "Z"})
    reconcile()
    assert status(experiment) == "FAILED"
    assert "galileo_zone=Z" in experiment.reason


def test_a_dead_shard_is_lost_with_an_event_and_the_rest_goes_on(fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.die()
    fleet.say(ShardState.RUNNING, only={"worker__name": "pi-2"})
    reconcile()
    reconcile()
    assert Shard.objects.get(worker__name="pi-1").status == "LOST"
    assert Shard.objects.get(worker__name="pi-2").status == "RUNNING"
    assert "died or hangs" in Event.objects.get(name="shard lost").value
    # Its last words stay in Redis for a while; they do not bring it back.
    reconcile()
    assert Shard.objects.get(worker__name="pi-1").status == "LOST"


def end_the_plan():
    Experiment.objects.update(start_broker_ns=F("start_broker_ns") - 10_000_000_000)


def test_shard_out_of_reach_is_awaited_until_the_plans_end(fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.die()
    fleet.say(ShardState.FINISHED, only={"worker__name": "pi-2"})
    for _ in range(3):
        reconcile()
    assert [(shard.status, shard.process_ended) for shard in Shard.objects.order_by("index")] == [
        ("LOST", False),
        ("FINISHED", False),
    ]
    assert status(started) == "RUNNING"
    end_the_plan()
    reconcile()
    assert (status(started), started.final_status) == ("FINALIZING", "FINISHED")


def test_returning_shard_is_followed_and_on_the_timeline(fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.die()
    fleet.say(ShardState.RUNNING, only={"worker__name": "pi-2"})
    reconcile()
    reconcile()
    lost = Shard.objects.get(worker__name="pi-1")
    assert lost.status == "LOST"
    fleet.broker.set(keys.lease_key(lost.id), "1:token", px=keys.LEASE_TTL_MS)
    reconcile()
    assert Shard.objects.get(id=lost.id).status == "RUNNING"
    names = list(Event.objects.filter(name__startswith="shard").order_by("id").values_list("name", flat=True))
    assert names == ["shard lost", "shard back"]


def test_reported_death_of_a_shard_ends_the_wait(fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.say_of("pi-1", ShardState.LOST, "its process 7 on pi-1 died")
    fleet.say(ShardState.FINISHED, only={"worker__name": "pi-2"})
    reconcile()
    assert Shard.objects.filter(status="LOST", process_ended=True, reason="its process 7 on pi-1 died").count() == 1
    assert (status(started), started.final_status) == ("FINALIZING", "FINISHED")


def test_a_lost_shard_whose_death_is_told_later_is_gone_then(fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.die()
    reconcile()
    reconcile()
    assert Shard.objects.filter(status="LOST", process_ended=False).count() == 2
    for worker in ("pi-1", "pi-2"):
        fleet.say_of(worker, ShardState.LOST, "died")
    reconcile()
    assert Shard.objects.filter(status="LOST", process_ended=True).count() == 2
    assert (status(started), started.reason) == ("FINALIZING", "every shard was lost: died")


def test_final_batch_replaces_a_missing_status(fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.bring_batches()
    Shard.objects.filter(worker__name="pi-1").update(final_state=ShardState.LOST, reason="worker shut down")
    reconcile()
    assert list(Shard.objects.order_by("index").values_list("status", "process_ended")) == [
        ("LOST", True),
        ("FINISHED", False),
    ]
    assert status(started) == "FINISHED"


def on_worker_loss(policy):
    ClientGroup.objects.update(on_worker_loss=policy, version=F("version") + 1)


def test_on_worker_loss_fail_stops_everything_and_says_why(broker, fleet, started):
    on_worker_loss("fail")
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.say_of("pi-1", ShardState.LOST, "died")
    reconcile()
    assert (status(started), started.final_status) == ("FINALIZING", "FAILED")
    assert "on_worker_loss is fail: died" in started.reason
    assert desired_states(broker) == {"stop"}


def test_replace_orders_an_attempt_that_takes_over(fleet, started):
    on_worker_loss("replace")
    fleet.say(ShardState.RUNNING)
    reconcile()
    lost = Shard.objects.get(worker__name="pi-1")
    fleet.broker.delete(worker_key("pi-1"))
    fleet.broker.srem(WORKERS_KEY, "pi-1")
    reconcile()
    reconcile()
    fleet.say_of("pi-1", ShardState.LOST, "its lease was not renewed for 6 s")
    fleet.say(ShardState.RUNNING, only={"worker__name": "pi-2"})
    for _ in range(3):
        reconcile()
    again = Shard.objects.get(id=lost.id)
    assert (again.worker.name, again.attempt, again.status, again.process_ended) == ("pi-2", 2, "DISPATCHED", False)
    order = fleet.orders("pi-2")[-1]
    assert (order.shard_id, order.attempt, order.takes_over, order.clients) == (lost.id, 2, True, lost.clients)
    assert order.void_after_broker_ns < fleet.orders("pi-2")[0].void_after_broker_ns
    names = list(Event.objects.filter(name__startswith="shard").order_by("id").values_list("name", flat=True))
    assert names == ["shard lost", "shard ordered again"]
    assert status(started) == "RUNNING"


def test_replacement_avoids_the_failed_worker(fleet, started):
    on_worker_loss("replace")
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.say_of("pi-1", ShardState.LOST, "its process 7 on pi-1 died")
    reconcile()
    assert set(Shard.objects.values_list("worker__name", "attempt")) == {("pi-2", 1), ("pi-2", 2)}


def test_pauses_between_attempts_grow(fleet, started):
    on_worker_loss("replace")
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.say_of("pi-1", ShardState.LOST, "died")
    reconcile()
    lost = Shard.objects.get(attempt=2)
    said = ShardStatus(lost.id, 2, "pi-2", 1, ShardState.LOST, reason="died")
    fleet.broker.set(keys.shard_key(lost.id), to_json(said))
    reconcile()
    reconcile()
    lost.refresh_from_db()
    assert (lost.status, lost.attempt) == ("LOST", 2)
    Shard.objects.filter(id=lost.id).update(ordered_at=timezone.now() - timedelta(seconds=5))
    reconcile()
    lost.refresh_from_db()
    assert (lost.status, lost.attempt) == ("DISPATCHED", 3)


def test_untaken_order_is_lost_at_the_plans_end(fleet, started):
    on_worker_loss("replace")
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.say_of("pi-1", ShardState.LOST, "died")
    reconcile()
    Shard.objects.filter(attempt=2).update(ordered_at=timezone.now() - timedelta(seconds=60))
    fleet.say(ShardState.FINISHED, only={"attempt": 1})
    end_the_plan()
    reconcile()
    assert set(Shard.objects.values_list("status", "process_ended")) == {("LOST", True), ("FINISHED", False)}
    assert (status(started), started.final_status) == ("FINALIZING", "FINISHED")


def test_a_cancel_leaves_no_room_for_another_attempt(fleet, started):
    on_worker_loss("replace")
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.say_of("pi-1", ShardState.LOST, "died")
    stale = Experiment.objects.get(id=started.id)
    ending.cancel(started.id, "by test")
    reconcile()
    shards.order_again(stale, Shard.objects.get(status="LOST"))
    assert set(Shard.objects.values_list("attempt", flat=True)) == {1}
    assert len(fleet.orders("pi-1")) + len(fleet.orders("pi-2")) == 2


def test_shard_belongs_to_the_instance_that_took_it(fleet, make_experiment):
    fleet.join("pi-1")
    make_experiment()
    reconcile()
    fleet.join("pi-1", instance="pi-1-2")
    fleet.say(ShardState.READY)
    reconcile()
    assert set(Shard.objects.values_list("worker_instance", flat=True)) == {"pi-1-2"}


def test_what_an_interrupted_end_has_left_is_tidied_later(broker, fleet, started, monkeypatch):
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.say(ShardState.FINISHED)
    fleet.bring_batches()

    def interrupt(_):
        raise RedisError("away")

    with monkeypatch.context() as patch:
        patch.setattr(ending, "clear_redis", interrupt)
        with pytest.raises(RedisError):
            reconcile()
    assert status(started) == "FINISHED"
    assert broker.keys("galileo:group:*")
    reconcile()
    assert not broker.keys("galileo:group:*") and not broker.keys("galileo:shard:*")
    assert list(ending.uncleared()) == []


def test_replacement_waits_for_a_worker_until_the_plans_end(fleet, started):
    on_worker_loss("replace")
    fleet.say(ShardState.RUNNING)
    reconcile()
    for name in ("pi-1", "pi-2"):
        fleet.broker.delete(worker_key(name))
        fleet.broker.srem(WORKERS_KEY, name)
    reconcile()
    reconcile()
    for name in ("pi-1", "pi-2"):
        fleet.say_of(name, ShardState.LOST, "died")
    reconcile()
    assert set(Shard.objects.values_list("status", flat=True)) == {"LOST"}
    assert status(started) == "RUNNING"
    fleet.join("pi-3")
    reconcile()
    assert set(Shard.objects.values_list("status", "worker__name", "attempt")) == {("DISPATCHED", "pi-3", 2)}
    Shard.objects.update(status="LOST", process_ended=True)
    end_the_plan()
    reconcile()
    assert (status(started), started.final_status) == ("FINALIZING", "FAILED")


def test_overdue_shards_fail_the_experiment(broker, fleet, started):
    fleet.say(ShardState.RUNNING)
    Experiment.objects.update(start_broker_ns=F("start_broker_ns") - 3_600_000_000_000)
    reconcile()
    assert (status(started), started.final_status) == ("FINALIZING", "FAILED")
    assert desired_states(broker) == {"stop"}


@pytest.mark.parametrize("phase", ["starting", "running"])
def test_a_cancelled_experiment_stops_at_once_and_ends_cancelled(broker, fleet, make_experiment, phase):
    fleet.join("pi-1")
    experiment = make_experiment()
    reconcile()
    fleet.say(ShardState.READY)
    if phase == "running":
        reconcile()
    ending.cancel(experiment.id, "by test")
    assert desired_states(broker) == {"stop"}
    assert status(experiment) == "FINALIZING"
    fleet.say(ShardState.FINISHED)
    fleet.bring_batches()
    reconcile()
    assert (status(experiment), experiment.reason) == ("CANCELLED", "by test")


def test_cancel_after_stopped_shards_keeps_its_reason(fleet, started, monkeypatch):
    stop_now = desired.stop_now

    def stop_and_be_overtaken(group_ids):
        """The reconciler looks between the stop and the change of the row."""
        stop_now(group_ids)
        monkeypatch.setattr(desired, "stop_now", stop_now)
        fleet.say(ShardState.STOPPED, "stopped")
        reconcile()

    monkeypatch.setattr(desired, "stop_now", stop_and_be_overtaken)
    ending.cancel(started.id, "by test")
    assert (status(started), started.final_status) == ("FINALIZING", "CANCELLED")
    fleet.bring_batches()
    reconcile()
    assert (status(started), started.reason) == ("CANCELLED", "by test")
    assert Event.objects.filter(experiment=started, name="cancelled", value="by test").count() == 1


def test_stopped_shards_without_a_request_end_cancelled(fleet, started):
    fleet.say(ShardState.STOPPED, "stopped", only={"worker__name": "pi-1"})
    fleet.say(ShardState.FINISHED, only={"worker__name": "pi-2"})
    reconcile()
    fleet.bring_batches()
    reconcile()
    assert status(started) == "CANCELLED"
    assert "stop" in started.reason


def test_routing_versions_are_on_the_timeline(started):
    from routing.services import set_record

    set_record("web", ["127.0.0.1:9", "127.0.0.1:10"], [1, 3], by="tester")
    reconcile()
    values = list(Event.objects.filter(name="routing").order_by("id").values_list("value", flat=True))
    assert values == [
        f"web version 1: 127.0.0.1:9@1 (by experiment {started.id})",
        "web version 2: 127.0.0.1:9@1, 127.0.0.1:10@3 (by tester)",
    ]


def test_foreign_route_change_is_on_the_timeline(broker, started):
    set_route(broker, "web", {"127.0.0.1:10": "1.0"})
    reconcile()
    remove_route(broker, "web")
    reconcile()
    values = list(Event.objects.filter(name="routing").order_by("id").values_list("value", flat=True))
    assert values[1:] == ["web version 2: 127.0.0.1:10@1 (by redis)", "web version 3: removed (by redis)"]


@pytest.mark.parametrize(
    ("labels", "fields", "expected"),
    [
        ({}, {}, "FAILED"),
        ({}, {"router": "service"}, "FAILED"),
        ({}, {"router": "StaticRouter"}, "STARTING"),
        ({}, {"router": "DebugRouter"}, "STARTING"),
        ({"router_type": "StaticRouter"}, {}, "STARTING"),
        ({"router_type": "StaticRouter"}, {"router": "host"}, "FAILED"),
        ({"router_type": "SymmetryServiceRouter"}, {}, "FAILED"),
    ],
)
def test_a_routing_record_is_asked_for_where_a_router_reads_it(fleet, make_experiment, labels, fields, expected):
    fleet.join("pi-1", labels={"worker_name": "pi-1", **labels})
    experiment = make_experiment(routing=[], **fields)
    reconcile()
    assert status(experiment) == expected
    assert ("has no routing record" in experiment.reason) == (expected == "FAILED")


def test_a_closed_load_ends_without_a_count_of_planned_arrivals(fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment(model="closed", ticks=None, clients=[2, 3], shards_per_worker=2)
    for state in (ShardState.READY, ShardState.RUNNING, ShardState.FINISHED):
        reconcile()
        fleet.say(state)
    fleet.bring_batches()
    reconcile()
    assert status(experiment) == "FINISHED"
    assert set(Shard.objects.values_list("status", "planned", "worker__name")) == {("FINISHED", None, "pi-1")}
    assert (experiment.summary["account"]["planned"], experiment.summary["account"]["closes"]) == (0, True)


def test_shards_of_one_worker_are_lost_separately(fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment(shards_per_worker=2, on_worker_loss="replace")
    reconcile()
    fleet.say(ShardState.READY)
    reconcile()
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.broker.delete(keys.lease_key(Shard.objects.get(index=0).id))
    Shard.objects.filter(index=0).update(ordered_at=timezone.now() - timedelta(seconds=60))
    for _ in range(3):
        fleet.say(ShardState.RUNNING, only={"index": 1})
        reconcile()
    assert list(Event.objects.filter(name="shard lost").values_list("experiment", flat=True)) == [experiment.id]
    again, sibling = Shard.objects.order_by("index")
    assert (again.worker.name, again.attempt, again.status) == ("pi-1", 2, "DISPATCHED")
    assert (sibling.attempt, sibling.status) == (1, "RUNNING")
    order = fleet.orders("pi-1")[-1]
    assert (order.shard_index, order.clients, order.takes_over) == (0, [[0, 3, 2]], True)
    assert status(experiment) == "RUNNING"


def test_a_second_reconciliation_beside_the_first_does_nothing(broker, fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment()
    broker.set(LOCK_KEY, "somebody else")
    reconcile()
    assert status(experiment) == "QUEUED"
    assert broker.get(LOCK_KEY) == b"somebody else"


def test_failing_experiment_does_not_block_others(fleet, make_experiment, monkeypatch):
    fleet.join("pi-1")
    broken = make_experiment()
    reconcile()
    monkeypatch.setitem(_STEPS, ExperimentStatus.STARTING, lambda experiment: 1 / 0)
    reconcile()
    assert status(broken) == "STARTING"
    Experiment.objects.update(starting_at=timezone.now() - timedelta(seconds=61))
    reconcile()
    assert (status(broken), broken.final_status) == ("FINALIZING", "FAILED")
    assert "could not be started" in broken.reason


def test_invalid_routing_record_does_not_block_experiments(broker, fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment()
    broker.hset("routing:versions", "foreign", "abc")
    reconcile()
    assert status(experiment) == "STARTING"


def test_stop_stays_while_shards_out_of_reach_may_run(broker, fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    fleet.die()
    end_the_plan()
    for _ in range(3):
        reconcile()
    assert (status(started), started.final_status) == ("FINALIZING", "FAILED")
    Experiment.objects.update(finalizing_at=timezone.now() - timedelta(seconds=61))
    reconcile()
    assert status(started) == "FAILED"
    assert desired_states(broker) == {"stop"}
    left = [keys.group_key(f"{started.id}.0"), *(keys.shard_key(shard.id) for shard in Shard.objects.all())]
    assert all(ending.OUT_OF_REACH_S < broker.ttl(key) < 3600 for key in left)


def test_ended_shards_leave_nothing_in_redis(broker, fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    broker.set(keys.newest_attempt_key(Shard.objects.first().id), "1 group")
    fleet.say_of("pi-1", ShardState.LOST, "died")
    fleet.say(ShardState.FINISHED, only={"worker__name": "pi-2"})
    reconcile()
    Experiment.objects.update(finalizing_at=timezone.now() - timedelta(seconds=61))
    reconcile()
    assert status(started) == "FINISHED"
    assert not broker.keys("galileo:shard:*") and not broker.keys("galileo:group:*")


def test_a_shard_that_was_given_up_too_early_is_heard_again(fleet, started):
    fleet.say(ShardState.RUNNING)
    reconcile()
    Shard.objects.filter(worker__name="pi-1").update(status="LOST", reason="its process died or hangs")
    shard = Shard.objects.get(worker__name="pi-1")
    clock = ClockSample(offset_ns=5, uncertainty_ns=20_000)
    said = ShardStatus(shard.id, shard.attempt, "pi-1", 1, ShardState.FINISHED, clock, 4096, "")
    fleet.broker.set(keys.shard_key(shard.id), to_json(said))
    reconcile()
    assert Shard.objects.get(worker__name="pi-1").status == "FINISHED"


def test_a_cancel_during_placement_leaves_no_group_behind(fleet, make_experiment):
    fleet.join("pi-1")
    workers.sync_workers()
    experiment = make_experiment()
    ending.cancel(experiment.id, "by test")
    shards.place_group(experiment, experiment.workloads.get())
    assert not ClientGroup.objects.exists()
