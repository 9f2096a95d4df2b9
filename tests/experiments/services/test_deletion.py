"""An experiment that is deleted goes, whoever dies on the way."""

import pytest
import redis

from experiments.ingest.ingest import ORPHANS_KEY, ingest
from experiments.models import ClientGroup, Event, Experiment, Trace
from experiments.models.experiment import ExperimentQuerySet
from experiments.services import desired, ending, experiments, interactive, lifecycle
from experiments.services.reconcile import reconcile
from loadgen.protocol import keys
from loadgen.protocol.enums import ShardState
from tests.support.batches import make_experiment as make_placed
from tests.support.batches import run_payloads, shards_of

pytestmark = [pytest.mark.costly, pytest.mark.django_db(transaction=True)]


class Killed(BaseException):
    """The process ends here."""


def kill(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture
def started(fleet, make_experiment):
    fleet.join("pi-1", "pi-2")
    experiment = make_experiment()
    reconcile()
    fleet.say(ShardState.READY)
    reconcile()
    fleet.say(ShardState.RUNNING)
    reconcile()
    experiment.refresh_from_db()
    assert experiment.status == "RUNNING"
    return experiment


def shards_obey(fleet):
    fleet.say(ShardState.STOPPED, "stopped")
    fleet.bring_batches()


def test_a_queued_experiment_goes_with_all_that_is_its(make_experiment):
    assert experiments.delete(make_experiment().id) is None
    assert not Experiment.objects.exists()
    assert not Event.objects.exists()


def test_running_experiment_is_removed_after_its_end(broker, fleet, started):
    standing = experiments.delete(started.id)
    assert standing is not None
    assert (standing.status, standing.final_status, standing.deletion_requested) == ("FINALIZING", "CANCELLED", True)
    assert ClientGroup.objects.get().state == "stop"
    reconcile()
    assert Experiment.objects.exists(), "its batches are not there yet"
    shards_obey(fleet)
    reconcile()
    assert not Experiment.objects.exists()
    assert broker.keys("galileo:group:*") == broker.keys("galileo:shard:*") == []


def test_asked_again_it_stands_as_it_stood(started):
    first, second = experiments.delete(started.id), experiments.delete(started.id)
    assert first is not None
    assert second is not None
    assert (first.status, first.ended_at) == (second.status, second.ended_at)


def test_an_unknown_one_is_none(broker):
    with pytest.raises(Experiment.DoesNotExist):
        experiments.delete("202611220000-abcd")


@pytest.mark.parametrize("moment", [(ending, "cancel"), (desired, "stop_now"), (ExperimentQuerySet, "move")])
def test_reconciler_completes_a_killed_deletion(fleet, started, moment):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*moment, kill)
        experiments.delete(started.id)
    reconcile()
    started.refresh_from_db()
    assert (started.status, started.final_status, started.reason) == ("FINALIZING", "CANCELLED", "deleted")
    shards_obey(fleet)
    reconcile()
    assert not Experiment.objects.exists()


@pytest.mark.parametrize("moment", [(lifecycle, "summarise"), (ending, "clear_redis"), (experiments, "_remove")])
def test_a_reconciler_that_is_killed_leaves_it_to_the_next(broker, fleet, started, moment):
    experiments.delete(started.id)
    shards_obey(fleet)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*moment, kill)
        reconcile()
    assert Experiment.objects.exists()
    reconcile()
    assert not Experiment.objects.exists()
    assert broker.keys("galileo:group:*") == broker.keys("galileo:shard:*") == []


def test_marked_queued_experiment_is_never_started(fleet, make_experiment):
    fleet.join("pi-1")
    experiment = make_experiment()
    Experiment.objects.update(deletion_requested=True)
    reconcile()
    assert not Experiment.objects.exists()
    assert fleet.orders("pi-1") == []
    assert not Event.objects.filter(experiment=experiment.id).exists()


def test_one_that_cannot_be_removed_does_not_hold_up_the_others(broker, make_experiment, monkeypatch, caplog):
    stays, _ = (make_experiment() for _ in range(2))
    Experiment.objects.update(deletion_requested=True)
    original = experiments._remove

    def remove(experiment_id):
        if experiment_id == stays.id:
            raise ArithmeticError("impossible")
        original(experiment_id)

    monkeypatch.setattr(experiments, "_remove", remove)
    reconcile()
    assert Experiment.objects.get() == stays
    assert f"the deletion of experiment {stays.id} failed" in caplog.text


def test_reconciler_removes_redis_keys_after_an_outage(broker, started, fleet, monkeypatch):
    shards_obey(fleet)
    monkeypatch.setattr(ending, "clear_redis", lambda experiment: None)  # control was killed just then
    reconcile()
    reconcile()
    started.refresh_from_db()
    assert started.has_ended
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desired, "redis_client", lambda: redis.Redis(port=1))
        standing = experiments.delete(started.id)
    assert standing is not None
    assert standing.deletion_requested
    reconcile()
    assert not Experiment.objects.exists()
    assert broker.keys("galileo:group:*") == broker.keys("galileo:shard:*") == []


def test_deleted_interactive_experiment_keeps_its_groups(broker):
    experiment = interactive.start("by hand", "tester", {})
    standing = experiments.delete(experiment.id)
    assert standing is not None
    assert standing.status == "FINALIZING"
    reconcile()
    assert not Experiment.objects.exists()


def test_late_batches_of_it_are_acknowledged_and_counted(broker):
    experiment = make_placed(status="FINISHED")
    (shard,) = shards_of(experiment)
    first, *late = run_payloads(shard)
    ingest(first)
    Experiment.objects.update(deletion_requested=True)
    ingest(late[0])
    reconcile()
    assert not Experiment.objects.exists()
    ingest(late[1])
    assert not Trace.objects.exists()
    assert int(broker.get(ORPHANS_KEY)) == 1
    assert broker.llen(keys.ack_key(shard.worker.name)) == 3
