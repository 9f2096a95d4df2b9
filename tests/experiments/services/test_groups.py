"""Interactive client groups and experiments; the workers' part is played through Redis."""

from datetime import timedelta

import pytest

from experiments.models import Batch, ClientGroup, Experiment, Shard
from experiments.plans import PlanInvalid, parse_group
from experiments.plans.commands import parse_clients, parse_command, parse_tracing
from experiments.services import ending, experiments, groups, interactive
from experiments.services.placement import NoFreeSlot
from experiments.services.reconcile import reconcile
from experiments.services.workers import NoMatchingWorkers
from loadgen.protocol import keys
from loadgen.protocol.codec import from_json
from loadgen.protocol.enums import CommandKind, ShardState
from loadgen.protocol.messages import GroupDocument

pytestmark = pytest.mark.django_db(transaction=True)

LONG = timedelta(minutes=1)


@pytest.fixture
def two(fleet):
    """A group of four clients, two on each of two workers, all of which take part."""
    fleet.join("pi-1", "pi-2")
    group = groups.spawn(parse_group({"service": "s", "num": 4}), "tester")
    fleet.say(ShardState.READY)
    return groups.follow(group.id)


def document(broker, group):
    return from_json(GroupDocument, broker.hget(keys.group_key(group.id), "document"))


def test_clients_take_part_when_all_of_their_shards_are_ready(fleet, broker):
    fleet.join("pi-1", "pi-2")
    group = groups.spawn(parse_group({"service": "s", "num": 4}), "tester")
    assert document(broker, group).active == []
    fleet.say(ShardState.READY, only={"worker__name": "pi-1"})
    assert groups.follow(group.id).interactive_part.active == []
    fleet.say(ShardState.READY)
    group = groups.follow(group.id)
    assert (group.interactive_part.active, group.total_clients, group.interactive_part.pending) == ([[0, 4]], 4, [])
    assert document(broker, group).active == [[0, 4]]
    assert document(broker, group).state == "run"


def test_each_command_is_a_phase_that_begins_shortly(broker, two):
    first = document(broker, two).phase
    number = groups.command(two.id, kind=CommandKind.RATE, rate_rps=3.0)
    phase = document(broker, two).phase
    assert (phase.number, phase.kind, phase.rate_rps) == (number, CommandKind.RATE, 3.0)
    assert number == first.number + 1
    seconds, microseconds = broker.time()
    ahead_ns = phase.start_broker_ns - (seconds * 10**9 + microseconds * 1000)
    assert 0 < ahead_ns <= groups.EFFECTIVE_AHEAD_NS


def test_added_clients_share_the_rate_when_they_are_ready(fleet, broker, two):
    groups.command(two.id, kind=CommandKind.RATE, rate_rps=3.0)
    groups.close(two.id, 1)
    groups.add(two.id, 2)
    assert groups.follow(two.id).interactive_part.active == [[0, 3]]
    before = document(broker, two).phase
    fleet.say(ShardState.READY)
    group = groups.follow(two.id)
    assert (group.interactive_part.active, group.total_clients) == ([[0, 3], [4, 6]], 5)
    phase = document(broker, two).phase
    assert (phase.number, phase.rate_rps) == (before.number + 1, 3.0)


@pytest.mark.parametrize(("done", "kind"), [(0, CommandKind.BACK_TO_BACK), (2, CommandKind.RATE)])
def test_added_clients_do_not_repeat_completed_requests(fleet, broker, two, done, kind):
    fleet.say(ShardState.RUNNING)
    groups.follow(two.id)
    number = groups.command(two.id, kind=CommandKind.BACK_TO_BACK, requests=5)
    fleet.say(ShardState.RUNNING, phase=number, phases_done=[number] if done else [])
    groups.add(two.id, 1)
    fleet.say(ShardState.READY, only={"clients": [[4, 5, 1]]})
    groups.follow(two.id)
    assert document(broker, two).phase.kind == kind


def test_closing_some_clients_leaves_the_phase_alone(broker, two):
    groups.command(two.id, kind=CommandKind.GAPS, distribution="constant", parameters=[1.0])
    before = document(broker, two)
    groups.close(two.id, 3)
    after = document(broker, two)
    assert (after.active, after.phase, after.version) == ([[0, 1]], before.phase, before.version + 1)


@pytest.mark.parametrize("clients", [None, 4, 9])
def test_closed_group_refuses_commands_and_ends(fleet, broker, two, clients):
    groups.close(two.id, clients)
    assert document(broker, two).state == "stop"
    with pytest.raises(groups.GroupClosed, match="is closed; spawn another one"):
        groups.command(two.id, kind=CommandKind.RATE)
    with pytest.raises(groups.GroupClosed):
        groups.add(two.id, 1)
    fleet.say(ShardState.FINISHED)
    reconcile()
    assert ClientGroup.objects.get(id=two.id).interactive_part.ended_at is not None
    with pytest.raises(groups.GroupClosed):
        groups.command(two.id, kind=CommandKind.RATE)
    assert not broker.exists(keys.group_key(two.id))


def test_a_group_whose_shards_have_failed_is_closed(fleet, two):
    fleet.say(ShardState.FAILED, "the app is broken")
    group = groups.follow(two.id)
    group.refresh_from_db()
    assert (group.state, group.interactive_part.ended_at is None) == ("stop", False)
    assert set(group.shards.values_list("reason", flat=True)) == {"the app is broken"}


def test_the_controller_renews_open_groups_only(fleet, broker, two):
    reconcile()
    assert int(broker.hget(keys.group_key(two.id), "renewals")) > 0
    groups.close(two.id)
    before = broker.hget(keys.group_key(two.id), "renewals")
    reconcile()
    assert broker.hget(keys.group_key(two.id), "renewals") == before


def test_an_order_that_nobody_takes_is_given_again(fleet, monkeypatch):
    fleet.join("pi-1", "pi-2")
    group = groups.spawn(parse_group({"service": "s"}), "tester")
    Shard.objects.update(ordered_at=Shard.objects.get().ordered_at - timedelta(seconds=60))
    groups.follow(group.id)
    assert Shard.objects.get().attempt == 2


def test_a_shard_that_nobody_took_does_not_keep_a_closed_group(fleet, two):
    groups.add(two.id, 1)
    groups.close(two.id)
    fleet.say(ShardState.FINISHED, only={"status": "READY"})
    Shard.objects.filter(status="DISPATCHED").update(ordered_at=Shard.objects.latest("id").ordered_at - LONG)
    group = groups.follow(two.id)
    assert group.interactive_part.ended_at is not None
    assert set(group.shards.values_list("status", flat=True)) == {"FINISHED", "LOST"}


def test_returning_shard_finds_the_stop_of_its_group(fleet, broker, two):
    fleet.die()
    Shard.objects.update(status="LOST")
    group = groups.follow(two.id)
    assert (group.state, group.interactive_part.ended_at is None) == ("stop", False)
    assert document(broker, group).state == "stop"
    assert 0 < broker.ttl(keys.group_key(two.id)) <= groups.STOP_STAYS_S


@pytest.mark.parametrize("said", [{"phase": 2, "phases_done": [1]}, {}])
def test_requests_commanded_before_readiness_are_made(fleet, broker, said):
    fleet.join("pi-1")
    group = groups.spawn(parse_group({"service": "s"}), "tester")
    number = groups.command(group.id, kind=CommandKind.BACK_TO_BACK, requests=5)
    fleet.say(ShardState.READY, **said)
    groups.follow(group.id)
    phase = document(broker, group).phase
    assert (phase.number, phase.kind, phase.requests) == (number, CommandKind.BACK_TO_BACK, 5)


def test_clients_are_not_closed_while_others_are_added(two):
    groups.add(two.id, 2)
    with pytest.raises(groups.GroupNotReady, match="clients are being added"):
        groups.close(two.id, 2)
    assert ClientGroup.objects.get(id=two.id).state == "run"


def test_deserted_group_pauses_with_an_event(fleet, broker, two):
    experiment = interactive.start("by hand", "tester", {})
    number = groups.command(two.id, kind=CommandKind.RATE, rate_rps=5.0)
    fleet.say(ShardState.RUNNING, phase=number, is_deserted=True)
    groups.follow(two.id)
    assert document(broker, two).phase.rate_rps == 0
    assert experiment.events.filter(name="client group paused").count() == 1


def test_what_cannot_be_placed_leaves_nothing_behind(fleet):
    with pytest.raises(NoMatchingWorkers):
        groups.spawn(parse_group({"service": "s"}), "tester")
    fleet.join("pi-1", slots=1)
    groups.spawn(parse_group({"service": "s"}), "tester")
    with pytest.raises(NoFreeSlot):
        groups.spawn(parse_group({"service": "s"}), "tester")
    assert (ClientGroup.objects.count(), Shard.objects.count()) == (1, 1)


class TestInteractiveExperiment:
    def test_it_records_open_and_later_groups_until_its_stop(self, broker, two):
        experiment = interactive.start("by hand", "tester", {})
        assert document(broker, two).experiment_id == experiment.id
        later = groups.spawn(parse_group({"service": "t"}), "tester")
        assert document(broker, later).experiment_id == experiment.id
        assert set(experiment.workloads.values_list("service", flat=True)) == {"s", "t"}
        interactive.stop(experiment.id)
        assert document(broker, two).experiment_id is None
        experiment.refresh_from_db()
        assert (experiment.status, experiment.final_status) == ("FINALIZING", "FINISHED")

    def test_one_at_a_time_and_none_beside_a_plans(self, fleet, make_experiment):
        experiment = interactive.start("first", "tester", {})
        with pytest.raises(interactive.OtherExperimentRuns, match="first is RUNNING"):
            interactive.start("second", "tester", {})
        planned = make_experiment()
        fleet.join("pi-1")
        reconcile()
        planned.refresh_from_db()
        assert planned.status == "QUEUED"
        interactive.stop(experiment.id)
        with pytest.raises(interactive.NotRunning, match="is FINALIZING"):
            interactive.stop(experiment.id)
        assert Experiment.objects.count() == 2

    def test_tracing_is_paused_for_present_and_later_groups(self, broker, two):
        experiment = interactive.start("by hand", "tester", {})
        before = document(broker, two)
        assert before.tracing
        for _ in range(2):  # the second time it is so already
            assert not interactive.trace(experiment.id, False).tracing
        paused = document(broker, two)
        assert (paused.tracing, paused.version, paused.phase) == (False, before.version + 1, before.phase)
        later = groups.spawn(parse_group({"service": "t"}), "tester")
        assert not document(broker, later).tracing
        interactive.trace(experiment.id, True)
        assert document(broker, two).tracing
        assert document(broker, later).tracing
        interactive.trace(experiment.id, False)
        names = experiment.events.order_by("id").values_list("name", flat=True)
        assert list(names) == ["running", "tracing paused", "tracing resumed", "tracing paused"]
        interactive.stop(experiment.id)
        assert document(broker, two).tracing
        with pytest.raises(interactive.NotRunning, match="is FINALIZING"):
            interactive.trace(experiment.id, True)
        Experiment.objects.update(status="FINISHED", final_status="FINISHED")
        interactive.start("the next", "tester", {})
        assert document(broker, two).tracing

    def test_of_a_group_that_has_ended_nothing_comes_back_to_redis(self, fleet, broker, two):
        experiment = interactive.start("by hand", "tester", {})
        groups.close(two.id)
        fleet.say(ShardState.FINISHED)
        assert groups.follow(two.id).interactive_part.ended_at is not None
        interactive.trace(experiment.id, False)
        assert not broker.exists(keys.group_key(two.id))
        interactive.stop(experiment.id)
        assert not broker.exists(keys.group_key(two.id))
        two.refresh_from_db()
        assert two.experiment is None

    def test_a_planned_ones_tracing_is_its_plans(self, fleet, broker, make_experiment):
        planned = make_experiment(tracing=False)
        fleet.join("pi-1")
        reconcile()
        assert not document(broker, planned.groups.get()).tracing
        with pytest.raises(interactive.NotRunning, match="and not interactive and running"):
            interactive.trace(planned.id, True)
        planned.refresh_from_db()
        assert not planned.tracing

    def test_deleted_one_leaves_later_batches_to_the_next(self, two):
        first = interactive.start("first", "tester", {})
        shard = two.shards.first()
        row = {"shard": shard, "attempt": 1, "rows": 0, "received_at": first.started_at, "counters": {}, "gauges": {}}
        Batch.objects.create(experiment=first, number=0, **row)
        ending.cancel(first.id, "by test")
        Experiment.objects.filter(id=first.id).update(status="CANCELLED")
        experiments.delete(first.id)
        assert Batch.objects.get().experiment is None

    def test_a_cancelled_one_leaves_the_groups_alone(self, broker, two):
        experiment = interactive.start("by hand", "tester", {})
        ending.cancel(experiment.id, "by test")
        assert (document(broker, two).state, document(broker, two).experiment_id) == ("run", None)
        reconcile()
        experiment.refresh_from_db()
        assert (experiment.final_status, experiment.reason) == ("CANCELLED", "by test")

    def test_one_that_nobody_renews_is_ended_with_a_reason(self, fleet, monkeypatch):
        monkeypatch.setattr(interactive, "CONFIRM_S", 0.0)
        experiment = interactive.start("left", "tester", {})
        interactive.renew(experiment.id)
        reconcile()
        experiment.refresh_from_db()
        assert experiment.status == "RUNNING"
        Experiment.objects.update(renewed_at=experiment.renewed_at - interactive.LEASE)
        reconcile()
        experiment.refresh_from_db()
        assert (experiment.status, experiment.reason) == ("FINISHED", interactive.ABANDONED)

    def test_step_of_the_databases_clock_ends_no_session(self, fleet):
        experiment = interactive.start("stepped", "tester", {})
        reconcile()
        Experiment.objects.update(renewed_at=experiment.renewed_at - interactive.LEASE)
        reconcile()
        interactive.renew(experiment.id)
        reconcile()
        experiment.refresh_from_db()
        assert experiment.status == "RUNNING"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, "n: must have one of n"),
        ({"rps": -1}, "rps: must be at least 0"),
        ({"rps": float("nan")}, "rps: must be a finite number"),
        ({"rps": "many"}, "rps: must be a number"),
        ({"rps": None}, "rps: must be a number, got nothing"),
        ({"n": 0}, "n: must be at least 1"),
        ({"n": 1.5}, "n: must be a whole number"),
        ({"ia": -1}, "ia: must be at least 0"),
        ({"ia": 0}, "ia: gaps that are never above 0 need n"),
        ({"ia": ["uniform", -2, -1]}, "ia: gaps that are never above 0 need n"),
        ({"ia": ["expovariate", 0]}, "ia: lambd: must be from"),
        ({"ia": ["nope"]}, "ia: must be one of constant"),
        ({"ia": ["prerecorded", []]}, "ia.gaps: must have from 1 to 50,000 numbers"),
        ({"ia": ["prerecorded", 3]}, "ia: prerecorded must be followed by a list"),
        ({"ia": ["prerecorded", [1], [2]]}, "ia: prerecorded must be followed by a list"),
        ({"ia": ["prerecorded", "/etc/hostname"]}, "ia: a file cannot be read here"),
        ({"ia": "prerecorded"}, "ia: prerecorded must be followed by a list"),
        ({"ia": ["prerecorded", [1, "x"]]}, r"ia.gaps\[1\]: must be a number"),
        ({"rps": 1, "n": 3}, "n: has no effect beside rps"),
        ({"rate": 1}, "rate: unknown key"),
        ([], "plan: must be a mapping"),
    ],
)
def test_a_wrong_command_is_refused_with_its_field(data, error):
    with pytest.raises(PlanInvalid, match=error):
        parse_command(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, "tracing: is missing"),
        ({"tracing": None}, "tracing: is missing"),
        ({"tracing": "no"}, "tracing: must be true or false"),
        ({"tracing": True, "experiment": 1}, "experiment: unknown key"),
        ([], "plan: must be a mapping"),
    ],
)
def test_wrong_words_on_tracing_are_refused_with_their_field(data, error):
    with pytest.raises(PlanInvalid, match=error):
        parse_tracing(data)


@pytest.mark.parametrize("data", [{}, {"add": 0}, {"add": 1, "close": 1}, {"close": -1}, {"more": 1}])
def test_a_wrong_number_of_clients_is_refused(data):
    with pytest.raises(PlanInvalid):
        parse_clients(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, "service: is missing"),
        ({"service": "s", "num": 0}, "num: must be at least 1"),
        ({"service": "s", "ticks": [1]}, "ticks: unknown key"),
        ({"service": "s", "worker_labels": 3}, "worker_labels: must be a mapping"),
        (
            {"service": "s", "num": 1, "shards_per_worker": 3},
            "shards_per_worker: must not be above the number of clients, 1, .* raise num",
        ),
        (
            {"service": "s", "client_parameters": {"method": "GO GO"}},
            "client_parameters.method: must be an HTTP method",
        ),
    ],
)
def test_a_wrong_group_is_refused_with_its_field(data, error):
    with pytest.raises(PlanInvalid, match=error):
        parse_group(data)
