"""The time of a running load, and what a step of the broker's clock does to decisions about absences."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from redis.exceptions import RedisError

from experiments.models import ClientGroup, Event, Shard, Worker
from experiments.plans import parse_group
from experiments.services import broker as broker_clock
from experiments.services import ending, events, groups, interactive, shards, workers
from experiments.services.broker import broker_now_ns, try_lock
from experiments.services.reconcile import reconcile
from experiments.services.workers import BrokerAge, sync_workers
from experiments.throttling import BrokerCounter
from loadgen.protocol import keys
from loadgen.protocol.codec import to_json
from loadgen.protocol.enums import ShardState
from loadgen.protocol.keys import START_AHEAD_NS
from loadgen.protocol.messages import ClockSample
from tests.support.workers import worker_info

pytestmark = [pytest.mark.costly, pytest.mark.django_db(transaction=True)]

STEP_NS = 90_000_000_000


@pytest.fixture
def started(fleet, make_experiment):
    fleet.join("pi-1", "pi-2")
    return start(fleet, make_experiment())


@pytest.fixture
def alone(fleet, make_experiment):
    """A run with one shard, which is placed again when it is lost."""
    fleet.join("pi-1")
    started = start(fleet, make_experiment(duration="60s", interval="60s", ticks=[1], on_worker_loss="replace"))
    fleet.say(ShardState.RUNNING)
    reconcile()
    assert Shard.objects.count() == 1
    return started


def start(fleet, experiment):
    reconcile()
    fleet.say(ShardState.READY)
    reconcile()
    experiment.refresh_from_db()
    return experiment


def step_broker(experiment, step_ns, *names):
    """As if the broker's clock had been set since the start: the start lies so much further back in its new time."""
    experiment.start_broker_ns -= step_ns
    experiment.save(update_fields=["start_broker_ns"])
    Shard.objects.update(clock_offset_ns=F("clock_offset_ns") - step_ns)
    if names:
        Worker.objects.exclude(name__in=names).update(clock_offset_ns=F("clock_offset_ns") - step_ns)


@pytest.mark.parametrize("step_ns", [0, STEP_NS, -STEP_NS])
def test_time_left_does_not_depend_on_the_brokers_clock(started, step_ns):
    before_s = ending.time_left_s(started)
    step_broker(started, step_ns)
    assert abs(ending.time_left_s(started) - before_s) < 5
    assert broker_clock.step_ns(started) == pytest.approx(step_ns, abs=1000)


@pytest.mark.parametrize("step_ns", [STEP_NS, -STEP_NS])
def test_heartbeat_from_before_the_step_moves_no_time(started, step_ns):
    before_s = ending.time_left_s(started)
    started.start_broker_ns -= step_ns
    started.save(update_fields=["start_broker_ns"])
    Worker.objects.update(heartbeat_at=F("heartbeat_at") - timedelta(microseconds=step_ns // 1000))
    assert abs(ending.time_left_s(started) - before_s) < 5


def test_without_a_live_worker_the_brokers_clock_counts(started):
    Worker.objects.update(status="LOST")
    step_broker(started, STEP_NS)
    assert ending.time_left_s(started) < -80


def test_step_is_on_the_timeline_once_for_each_amount(started):
    def steps():
        reconcile()
        found = Event.objects.filter(experiment=started, name=events.BROKER_CLOCK_STEPPED).order_by("id")
        return [float(event.value.split()[1]) for event in found]

    assert steps() == []
    step_broker(started, STEP_NS)
    assert steps() == steps() == [90]
    step_broker(started, -STEP_NS)
    assert steps() == steps() == [90, -90]


def steps_of(experiment):
    found = Event.objects.filter(experiment=experiment, name=events.BROKER_CLOCK_STEPPED).order_by("id")
    return [float(event.value.split()[1]) for event in found]


def test_drift_is_not_recorded_as_a_step(started):
    events.record_clock_step(started)
    for _ in range(10):
        step_broker(started, 500_000_000)
        events.record_clock_step(started)
    assert steps_of(started) == []
    step_broker(started, STEP_NS)
    events.record_clock_step(started)
    assert steps_of(started) == [90]


@pytest.mark.parametrize(("step_s", "recorded"), [(4, []), (-4, []), (90, [90]), (-90, [-90])])
def test_process_that_reads_the_clocks_after_a_day_tells_drift_from_steps(started, monkeypatch, step_s, recorded):
    monkeypatch.setattr(events, "_read", None)
    started.start_broker_ns -= 86_400 * 10**9
    step_broker(started, step_s * 10**9)
    events.record_clock_step(started)
    events.record_clock_step(started)
    assert steps_of(started) == recorded


def test_step_is_recorded_when_the_database_is_back(started, monkeypatch):
    events.record_clock_step(started)
    step_broker(started, STEP_NS)
    with monkeypatch.context() as patch:
        patch.setattr(events, "record", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            events.record_clock_step(started)
    events.record_clock_step(started)
    assert steps_of(started) == [90]


def test_two_processes_record_a_step_once(started, monkeypatch):
    step_broker(started, STEP_NS)
    for _ in range(2):
        monkeypatch.setattr(events, "_read", (started.id, 0))
        events.record_clock_step(started)
    assert steps_of(started) == [90]


def test_step_that_not_all_workers_have_seen_is_not_recorded(started):
    step_broker(started, STEP_NS, "pi-1")
    events.record_clock_step(started)
    assert not Event.objects.filter(name=events.BROKER_CLOCK_STEPPED).exists()
    assert broker_clock.step_ns(started) == 0


def test_attempt_that_takes_over_is_told_the_step(fleet, started):
    started.groups.update(on_worker_loss="replace")
    fleet.say(ShardState.RUNNING)
    reconcile()
    step_broker(started, STEP_NS)
    fleet.say_of("pi-1", ShardState.LOST, "died")
    reconcile()
    (order,) = [order for name in ("pi-1", "pi-2") for order in fleet.orders(name) if order.attempt == 2]
    assert order.takes_over
    assert order.clock_step_ns == pytest.approx(STEP_NS, abs=1000)
    assert Shard.objects.get(attempt=2).clock_offset_ns is None


@pytest.mark.parametrize("step_ns", [STEP_NS, -STEP_NS])
def test_only_shard_of_a_run_is_told_the_step(fleet, alone, step_ns):
    step_broker(alone, step_ns)
    fleet.say_of("pi-1", ShardState.LOST, "died")
    reconcile()
    assert steps_told(fleet) == {2: pytest.approx(step_ns, abs=1000)}


@pytest.mark.parametrize("step_ns", [STEP_NS, -STEP_NS])
def test_step_is_told_again_without_any_reading(fleet, alone, step_ns):
    before_s = ending.time_left_s(alone)
    step_broker(alone, step_ns)
    for _ in range(2):  # attempt 2 is lost before it compares the clocks
        fleet.say_of("pi-1", ShardState.LOST, "died")
        reconcile()
    assert broker_clock.clock_readings(alone) == []
    assert steps_told(fleet) == {attempt: pytest.approx(step_ns, abs=1000) for attempt in (2, 3)}
    assert abs(ending.time_left_s(alone) - before_s) < 5
    alone.refresh_from_db()
    assert alone.status == "RUNNING"
    assert Event.objects.filter(name=events.BROKER_CLOCK_STEPPED).count() == 1


def steps_told(fleet):
    """Attempt → the step that its order names, of those that take over."""
    return {order.attempt: order.clock_step_ns for order in fleet.orders("pi-1") if order.takes_over}


@pytest.fixture
def eventful(fleet, make_experiment):
    """A run of 60 s, 10 s after its start, with an event at 5 s and one at 30 s."""
    fleet.join("pi-1")
    planned = [{"at": 5, "name": "early"}, {"at": 30, "name": "late"}]
    experiment = start(fleet, make_experiment(duration="60s", interval="60s", ticks=[1], events=planned))
    fleet.say(ShardState.RUNNING)
    passed_s = 10 + START_AHEAD_NS / 1e9
    experiment.started_at -= timedelta(seconds=passed_s)
    experiment.start_broker_ns -= round(passed_s * 1e9)
    experiment.save(update_fields=["started_at", "start_broker_ns"])
    return experiment


def step_machine(experiment, step_ns):
    """As if the clock that broker and controller share had been set since the start."""
    step_broker(experiment, step_ns)
    experiment.started_at -= timedelta(microseconds=step_ns // 1000)
    experiment.save(update_fields=["started_at"])


@pytest.mark.parametrize("end", [ending.finish, lambda run: ending.cancel(run.id, "enough")], ids=["finish", "cancel"])
@pytest.mark.parametrize("step_ns", [0, STEP_NS, -STEP_NS])
def test_end_is_on_the_axis_of_the_start(eventful, step_ns, end):
    step_machine(eventful, step_ns)
    end(eventful)
    eventful.refresh_from_db()
    assert 9 < (eventful.ended_at - eventful.started_at).total_seconds() < 20


@pytest.mark.parametrize("step_ns", [STEP_NS, -STEP_NS])
def test_planned_events_are_due_by_the_time_since_the_start(eventful, step_ns):
    step_machine(eventful, step_ns)
    reconcile()
    names = Event.objects.filter(experiment=eventful).values_list("name", flat=True)
    assert "early" in names and "late" not in names


def test_end_without_a_live_worker_leaves_out_the_recorded_step(eventful):
    step_machine(eventful, -STEP_NS)
    events.record_clock_step(eventful)
    Worker.objects.update(status="LOST")
    ending.fail(eventful, "the worker is lost")
    eventful.refresh_from_db()
    assert 9 < (eventful.ended_at - eventful.started_at).total_seconds() < 20


@pytest.fixture
def recording(fleet):
    """An interactive experiment, 10 s after its start, with one group."""
    fleet.join("pi-1", slots=16)
    group = groups.spawn(parse_group({"service": "a"}), "tester")
    fleet.say(ShardState.READY)
    experiment = interactive.start("by hand", "tester", {})
    experiment.started_at -= timedelta(seconds=10)
    experiment.start_broker_ns -= 10 * 10**9
    experiment.save(update_fields=["started_at", "start_broker_ns"])
    reconcile()
    return experiment, ClientGroup.objects.get(id=group.id)


def step_recording(experiment, step_ns):
    experiment.start_broker_ns -= step_ns
    experiment.started_at -= timedelta(microseconds=step_ns // 1000)
    for clock in experiment.clocks.values():
        clock[1] -= step_ns
    experiment.save(update_fields=["start_broker_ns", "started_at", "clocks"])


@pytest.mark.parametrize("step_ns", [0, STEP_NS, -STEP_NS])
def test_interactive_experiment_lasts_as_long_as_it_did(recording, step_ns):
    experiment, _ = recording
    step_recording(experiment, step_ns)
    interactive.stop(experiment.id)
    experiment.refresh_from_db()
    assert 9 < (experiment.ended_at - experiment.started_at).total_seconds() < 20
    ((duration_s, _),) = experiment.workloads.get().spec["schedule"]
    assert 9 < duration_s < 20


def test_interactive_experiment_is_not_shorter_than_to_its_last_heartbeat(recording, monkeypatch):
    experiment, _ = recording

    def away():
        raise RedisError

    step_recording(experiment, -STEP_NS)
    monkeypatch.setattr(broker_clock, "broker_now_ns", away)
    ended_at = broker_clock.load_time(experiment)
    assert 9 < (ended_at - experiment.started_at).total_seconds() < 20


@pytest.mark.parametrize("step_ns", [STEP_NS, -STEP_NS])
def test_step_of_an_interactive_experiment_is_on_the_timeline(recording, step_ns):
    experiment, _ = recording
    assert steps_of(experiment) == []
    step_recording(experiment, step_ns)
    reconcile()
    reconcile()
    assert steps_of(experiment) == [step_ns / 1e9]


def test_clients_that_are_added_to_an_experiment_are_told_its_step(fleet, recording):
    experiment, group = recording
    step_recording(experiment, STEP_NS)
    groups.add(group.id, 1)
    assert [order.clock_step_ns for order in fleet.orders("pi-1")] == [0, STEP_NS]


def test_heartbeat_of_before_a_step_is_no_clock_of_an_experiment(fleet):
    fleet.join("pi-1", "pi-2")
    sync_workers()
    Worker.objects.filter(name="pi-2").update(heartbeat_at=F("heartbeat_at") - timedelta(seconds=90))
    assert list(broker_clock.present_clocks()) == ["pi-1"]


def test_lease_from_before_a_step_back_counts_as_missing(fleet, broker, started):
    shard = Shard.objects.first()
    broker.set(keys.lease_key(shard.id), f"{shard.attempt}:token", px=keys.LEASE_TTL_MS)
    assert shard.id in shards.leases_of([shard])
    broker.pexpire(keys.lease_key(shard.id), keys.LEASE_TTL_MS + 90_000)
    assert shards.leases_of([shard]) == {}


def test_dead_worker_is_lost_after_a_step_back(fleet, broker):
    fleet.join("pi-1", "pi-2")
    sync_workers()
    ahead_ns = broker_now_ns() + STEP_NS
    broker.set(keys.worker_key("pi-1"), to_json(worker_info("pi-1", heartbeat_broker_ns=ahead_ns)), ex=96)
    sync_workers()
    fleet.join("pi-2")
    sync_workers()
    assert dict(Worker.objects.values_list("name", "status")) == {"pi-1": "LOST", "pi-2": "READY"}


def test_broker_that_was_known_for_long_is_not_fresh():
    now_s = 100.0
    age = BrokerAge(lambda: now_s)
    assert not age.is_fresh("a", 3600)
    assert age.is_fresh("a", -30)  # set back
    now_s += workers.FRESH_S + 1
    assert not age.is_fresh("a", -20)
    assert age.is_fresh("b", 2)


def test_lock_of_a_killed_holder_lasts_no_longer_after_a_step_back(broker):
    broker.set("galileo:test:lock", "token", px=96_000)
    with try_lock("galileo:test:lock", 3.0) as lock:
        assert lock is None
    assert 0 < broker.pttl("galileo:test:lock") <= 3000


def test_period_of_a_limit_lasts_no_longer_after_a_step_back(broker):
    counter = BrokerCounter()
    counter.add("galileo:test:rate", 60)
    broker.pexpire("galileo:test:rate", 150_000)
    assert counter.add("galileo:test:rate", 60) == (2, 60)
    assert broker.pttl("galileo:test:rate") <= 60_000


def test_readings_use_the_clock_of_the_instance_that_runs_the_shard(started):
    Worker.objects.update(instance="restarted", clock_offset_ns=ClockSample(10**15, 1000).offset_ns)
    assert broker_clock.step_ns(started) == 0
