"""Status changes: one process wins, the others learn that they lost."""

import pytest

from experiments.models import Experiment, ExperimentStatus, Shard, ShardStatus
from experiments.services import workers
from experiments.services.sending import send_order
from tests.support.workers import register

pytestmark = pytest.mark.django_db


def test_the_second_of_two_equal_changes_loses(make_experiment):
    experiment = make_experiment()
    assert Experiment.objects.move(experiment.id, ExperimentStatus.QUEUED, ExperimentStatus.STARTING)
    assert not Experiment.objects.move(
        experiment.id, ExperimentStatus.QUEUED, ExperimentStatus.CANCELLED, reason="too late"
    )
    experiment.refresh_from_db()
    assert (experiment.status, experiment.reason) == ("STARTING", "")


@pytest.fixture
def shard(broker, placed):
    register(broker, "pi-1")
    workers.sync_workers()
    placed()
    return Shard.objects.get()


def test_a_change_of_another_attempt_loses(shard):
    stale = Shard.objects.get()
    Shard.objects.update(attempt=2)
    assert not Shard.objects.move(stale, ShardStatus.READY)
    assert Shard.objects.get().status == "DISPATCHED"


def test_a_shard_is_dispatched_once(shard):
    Shard.objects.update(status="PENDING")
    first, second = Shard.objects.get(), Shard.objects.get()
    assert send_order(first)
    assert not send_order(second)
