"""Deleting an experiment removes all that belongs to it, and nothing else."""

import pytest
from django.db import connection

from experiments.models import ClientApp, ClientAppVersion, Experiment, Shard, Trace, Worker
from experiments.services import experiments
from routing.models import RoutingHost, RoutingRecord, RoutingRevision
from tests.databases import rows

pytestmark = [pytest.mark.costly, pytest.mark.database, pytest.mark.django_db(transaction=True)]

OUTLIVE = {Worker, RoutingRecord, RoutingHost, RoutingRevision, ClientApp, ClientAppVersion}


def test_an_ended_experiment_goes_with_every_row_of_its_own(broker, one_of_each):
    Experiment.objects.update(status="FINISHED", final_status="FINISHED")
    Trace.objects.bulk_create(rows.trace(one_of_each[Shard], row) for row in range(1, 2000))
    experiments.delete(rows.EXPERIMENT_ID)
    counts = {model: model.objects.count() for model in rows.our_models()}
    assert counts == {model: int(model in OUTLIVE) for model in counts}


def test_another_experiment_keeps_every_row(broker, one_of_each):
    other = rows.make_experiment("202611220102-zz99", status="FINISHED")
    rows.fill(rows.make_shard(other, one_of_each[Worker]))
    experiments.delete(other.id)
    assert {model.objects.count() for model in rows.our_models()} == {1}


def test_running_experiment_is_deleted_after_its_load_stops(broker, one_of_each):
    rows.make_experiment("202611220102-zz99", status="QUEUED", started_at=None)
    experiments.delete("202611220102-zz99")
    standing = experiments.delete(rows.EXPERIMENT_ID)
    assert standing is not None
    assert (standing.status, standing.deletion_requested) == ("FINALIZING", True)
    assert Trace.objects.count() == 1


def test_reconciler_deletes_ended_marked_experiments_in_parts(broker, one_of_each, monkeypatch):
    monkeypatch.setattr(experiments, "ROWS_PER_PASS", 1000)
    assert experiments.delete(rows.EXPERIMENT_ID) is not None
    Trace.objects.bulk_create(rows.trace(one_of_each[Shard], row) for row in range(1, 2500))
    experiments.continue_deletion(rows.EXPERIMENT_ID)
    assert Trace.objects.count() == 2500, "it has not ended"
    Experiment.objects.update(status="CANCELLED")
    left = []
    while Experiment.objects.exists():
        experiments.continue_deletion(rows.EXPERIMENT_ID)
        left.append(Trace.objects.count())
    assert left == ([0] if connection.vendor == "postgresql" else [1500, 500, 0])
    assert {model for model in rows.our_models() if model.objects.exists()} == OUTLIVE
