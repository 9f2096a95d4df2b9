"""Placement: which workers get which clients."""

from collections import Counter

import pytest

from experiments.models import Shard, Worker, WorkerStatus, Workload
from experiments.plans import parse, parse_group
from experiments.services import experiments, groups, workers
from experiments.services.placement import SHARD_RATE_RPS, NoFreeSlot, TooFewSlots, place, shares_of
from experiments.services.reconcile import reconcile
from experiments.services.workers import NoMatchingWorkers, matching_workers
from tests.support.plans import plan_data
from tests.support.workers import register

pytestmark = pytest.mark.django_db


@pytest.fixture
def two_zones(broker):
    register(broker, "pi-1", labels={"zone": "A", "worker_name": "pi-1"})
    register(broker, "pi-2", labels={"zone": "B", "worker_name": "pi-2"})
    workers.sync_workers()


def clients_of(share):
    return sorted(client for bounds in share.clients for client in range(*bounds))


@pytest.mark.usefixtures("two_zones")
def test_clients_are_dealt_out_in_turn_over_all_live_workers():
    first, second = place({}, 5)
    assert (clients_of(first), clients_of(second)) == ([0, 2, 4], [1, 3])


@pytest.mark.usefixtures("two_zones")
def test_a_label_narrows_the_choice_to_the_workers_that_carry_it():
    (share,) = place({"zone": "B"}, 5)
    assert share.worker.name == "pi-2"
    assert clients_of(share) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("two_zones")
def test_fewer_clients_than_workers_make_fewer_shards():
    assert len(place({}, 1)) == 1


@pytest.mark.usefixtures("two_zones")
def test_a_label_that_nobody_carries_is_named_with_what_there_is():
    with pytest.raises(NoMatchingWorkers, match=r"galileo_zone=C .*galileo_zone = A, B"):
        matching_workers({"zone": "C"})
    with pytest.raises(NoMatchingWorkers, match=r"galileo_rack=1 .*no worker has this label"):
        matching_workers({"rack": "1"})


@pytest.mark.usefixtures("two_zones")
def test_unmatched_combination_of_labels_is_named():
    with pytest.raises(NoMatchingWorkers, match="all of the labels galileo_zone=A, galileo_worker_name=pi-2"):
        matching_workers({"zone": "A", "worker_name": "pi-2"})


@pytest.mark.usefixtures("broker")
def test_without_any_worker_the_message_says_how_to_start_one():
    with pytest.raises(NoMatchingWorkers, match="bin/run worker"):
        place({}, 1)


@pytest.mark.usefixtures("two_zones")
def test_a_draining_worker_is_not_chosen():
    Worker.objects.filter(name="pi-1").update(status=WorkerStatus.DRAINING)
    assert [share.worker.name for share in place({}, 4)] == ["pi-2"]


def test_full_workers_are_named_with_who_holds_their_slots(broker, placed):
    register(broker, "pi-1", slots=1)
    workers.sync_workers()
    experiment = placed()
    with pytest.raises(NoFreeSlot, match=rf"pi-1; held by {experiment.id}\.0"):
        place({}, 1)


def test_the_worker_with_the_fewest_clients_comes_first(broker, placed):
    register(broker, "pi-1")
    workers.sync_workers()
    placed()
    register(broker, "pi-2")
    workers.sync_workers()
    assert [share.worker.name for share in place({}, 2)] == ["pi-2", "pi-1"]


@pytest.fixture
def two_sizes(broker):
    """A worker of 8 cores and 16 slots, and one of 2 cores and 4 slots."""
    register(broker, "big", slots=16, cores=8)
    register(broker, "small", slots=4, cores=2)
    workers.sync_workers()


def shards_by_worker(shares):
    return Counter(share.worker.name for share in shares)


@pytest.mark.usefixtures("two_sizes")
@pytest.mark.parametrize(
    ("rate_rps", "shards"),
    [
        (0, {"big": 1, "small": 1}),
        (2 * SHARD_RATE_RPS, {"big": 1, "small": 1}),
        (2 * SHARD_RATE_RPS + 1, {"big": 2, "small": 2}),
        (6 * SHARD_RATE_RPS, {"big": 4, "small": 2}),
        (1000 * SHARD_RATE_RPS, {"big": 8, "small": 2}),
    ],
)
def test_a_high_rate_gets_more_shards_as_far_as_there_are_cores(rate_rps, shards):
    assert shards_by_worker(place({}, 100, rate_rps=rate_rps)) == shards


@pytest.mark.usefixtures("two_sizes")
@pytest.mark.parametrize(
    ("asked", "shards"), [(1, {"big": 1, "small": 1}), (3, {"big": 3, "small": 3}), (10, {"big": 10, "small": 4})]
)
def test_a_number_of_shards_is_obeyed_as_far_as_there_are_slots(asked, shards):
    assert shards_by_worker(place({}, 100, shards_per_worker=asked, rate_rps=1e6)) == shards


@pytest.mark.usefixtures("two_sizes")
def test_each_client_is_in_one_shard_of_a_worker():
    shares = place({}, 50, shards_per_worker=3)
    assert len(shares) == 6
    assert sorted(client for share in shares for client in clients_of(share)) == list(range(50))
    assert {len(clients_of(share)) for share in shares} == {8, 9}


@pytest.mark.usefixtures("two_sizes")
def test_few_clients_are_spread_over_workers_first():
    assert shards_by_worker(place({}, 3, shards_per_worker=4)) == {"big": 2, "small": 1}


def test_slots_that_others_hold_are_left_to_them(broker, placed):
    register(broker, "pi-1", slots=4, cores=4)
    workers.sync_workers()
    placed(shards_per_worker=3)
    assert len(place({}, 100, shards_per_worker=3)) == 1
    assert len(place({}, 100, rate_rps=4 * SHARD_RATE_RPS)) == 1


def test_second_load_gets_a_free_slot_without_free_cores(broker, placed):
    register(broker, "pi-1", slots=4, cores=2)
    workers.sync_workers()
    placed(ticks=[10 * SHARD_RATE_RPS, 0])
    assert Shard.objects.count() == 2
    assert len(place({}, 100, rate_rps=10 * SHARD_RATE_RPS)) == 1


def test_each_shard_on_a_worker_has_its_own_order(broker, placed):
    register(broker, "pi-1", slots=4, cores=4)
    workers.sync_workers()
    placed(shards_per_worker=2, clients_per_host=5)
    shards = Shard.objects.order_by("index")
    assert [(shard.index, shard.worker.name, shard.status, shard.clients) for shard in shards] == [
        (0, "pi-1", "DISPATCHED", [[0, 5, 2]]),
        (1, "pi-1", "DISPATCHED", [[1, 5, 2]]),
    ]


def test_closed_load_gets_one_shard_per_worker(broker, placed):
    register(broker, "pi-1", slots=4, cores=4)
    workers.sync_workers()
    experiment = placed(model="closed", ticks=None, clients=[2, 7])
    assert (Shard.objects.count(), experiment.groups.get().total_clients) == (1, 7)


# --- plans with several workloads -------------------------------------------------------------------------------------


def plan_of(workloads, **fields):
    """A plan with so many workloads, each of one service and four clients; `fields` are those of each workload."""
    workload = {"service": "web", "ticks": [1, 2], "clients_per_host": 4, "router": "debug", **fields}
    whole = plan_data()
    whole["configuration"]["workloads"] = [dict(workload) for _ in range(workloads)]
    return parse(whole)


@pytest.fixture
def eight_slots(broker):
    for name in ("pi-1", "pi-2"):
        register(broker, name, labels={"zone": name[-1], "worker_name": name})
    workers.sync_workers()


@pytest.mark.usefixtures("eight_slots")
def test_plan_that_can_never_fit_is_refused_with_the_figures():
    with pytest.raises(TooFewSlots) as refused:
        experiments.check_workers(plan_of(45))
    assert str(refused.value).startswith(
        "45 of the plan's 45 workloads can run on pi-1, pi-2 only, and need at least 45 slots, one each, but all "
        "matching workers together have 8"
    )
    experiments.check_workers(plan_of(8))


@pytest.mark.usefixtures("eight_slots")
def test_only_the_workers_with_the_labels_count():
    with pytest.raises(TooFewSlots, match=r"5 of the plan's 5 workloads can run on pi-1 only, .* together have 4"):
        experiments.check_workers(plan_of(5, worker_labels={"zone": "1"}))
    experiments.check_workers(plan_of(4, worker_labels={"zone": "1"}))


@pytest.mark.usefixtures("eight_slots")
def test_workload_without_a_choice_gets_the_slot_it_needs():
    mixed = plan_of(8)
    for index in (4, 5, 6, 7):  # the last four can run on one worker only
        mixed.workloads[index].worker_labels["zone"] = "1"
    experiments.check_workers(mixed)
    mixed.workloads[0].worker_labels["zone"] = "1"
    with pytest.raises(TooFewSlots, match="5 of the plan's 8 workloads can run on pi-1 only"):
        experiments.check_workers(mixed)


@pytest.mark.usefixtures("eight_slots")
def test_queue_placement_waits_for_workers_that_join_later():
    experiments.check_workers(plan_of(45, placement="queue", shards=2, worker_labels={"zone": "9"}))


@pytest.mark.usefixtures("eight_slots")
@pytest.mark.parametrize("workloads", [2, 4, 5, 7, 8])
def test_every_workload_of_a_plan_that_fits_is_placed(workloads):
    experiment = experiments.create(plan_of(workloads), "tester")
    reconcile()
    experiment.refresh_from_db()
    assert (experiment.status, experiment.groups.count()) == ("STARTING", workloads)
    taken = Counter(Shard.objects.values_list("worker__name", flat=True))
    assert max(taken.values()) <= 4
    assert sum(taken.values()) == min(8, 2 * workloads)


@pytest.mark.usefixtures("eight_slots")
def test_plan_that_no_longer_fits_fails_at_its_start():
    experiment = experiments.create(plan_of(8), "tester")
    Worker.objects.filter(name="pi-2").update(slots=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.services.reconcile.sync_workers", lambda: None)
        reconcile()
    experiment.refresh_from_db()
    assert experiment.final_status == "FAILED"
    assert experiment.reason.startswith("8 of the plan's 8 workloads can run on pi-1, pi-2 only")
    assert not Shard.objects.exists()


@pytest.mark.usefixtures("eight_slots")
def test_full_workers_are_never_blamed_on_the_experiment_itself():
    group = groups.spawn(parse_group({"service": "web", "num": 8, "shards_per_worker": 4}), "tester")
    group.shards.filter(index__gt=5).update(status="FINISHED")  # two slots are free
    experiment = experiments.create(plan_of(3), "tester")
    reconcile()
    waiting = Workload.objects.get(experiment=experiment, group=None)
    with pytest.raises(NoFreeSlot) as refused:
        shares_of(waiting, 4)
    assert experiment.id not in str(refused.value)
    assert f"held by {group.id}, and 2 by other shards of its own" in str(refused.value)


def test_group_that_holds_every_slot_is_not_told_its_own_name(broker):
    register(broker, "pi-1", slots=2)
    group = groups.spawn(parse_group({"service": "web", "num": 2, "shards_per_worker": 2}), "tester")
    with pytest.raises(NoFreeSlot) as refused:
        groups.add(group.id, 1)
    assert str(refused.value) == "no free slot on pi-1; all 2 slots are used by other shards of its own"
