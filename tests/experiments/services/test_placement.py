"""Placement: which workers get which clients."""

import pytest

from experiments.models import Worker
from experiments.services import registry
from experiments.services.placement import NoFreeSlot, NoMatchingWorkers, matching_workers, place
from tests.support.workers import register

pytestmark = pytest.mark.django_db


@pytest.fixture
def two_zones(broker):
    register(broker, "pi-1", labels={"zone": "A", "worker_name": "pi-1"})
    register(broker, "pi-2", labels={"zone": "B", "worker_name": "pi-2"})
    registry.sync_workers()


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
def test_labels_that_no_single_worker_has_together_are_named_together():
    with pytest.raises(NoMatchingWorkers, match="all of the labels galileo_zone=A, galileo_worker_name=pi-2"):
        matching_workers({"zone": "A", "worker_name": "pi-2"})


@pytest.mark.usefixtures("broker")
def test_without_any_worker_the_message_says_how_to_start_one():
    with pytest.raises(NoMatchingWorkers, match="bin/run worker"):
        place({}, 1)


@pytest.mark.usefixtures("two_zones")
def test_a_draining_worker_is_not_chosen():
    Worker.objects.filter(name="pi-1").update(status=Worker.Status.DRAINING)
    assert [share.worker.name for share in place({}, 4)] == ["pi-2"]


def test_full_workers_are_named_with_who_holds_their_slots(broker, placed):
    register(broker, "pi-1", slots=1)
    registry.sync_workers()
    experiment = placed()
    with pytest.raises(NoFreeSlot, match=rf"pi-1; held by {experiment.id}\.0"):
        place({}, 1)


def test_the_worker_with_the_fewest_clients_comes_first(broker, placed):
    register(broker, "pi-1")
    registry.sync_workers()
    placed()
    register(broker, "pi-2")
    registry.sync_workers()
    assert [share.worker.name for share in place({}, 2)] == ["pi-2", "pi-1"]
