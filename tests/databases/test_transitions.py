"""A conditional UPDATE says how many rows met its condition, changed or not: every status change relies on it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from experiments.models import ClientGroup, Event, Experiment, ExperimentStatus, Shard, ShardStatus
from experiments.services import desired, events
from experiments.services.ending import end_at
from routing import selectors, services
from tests.databases import rows
from tests.databases.threads import together

pytestmark = [pytest.mark.database, pytest.mark.django_db]


def test_an_update_counts_the_rows_that_met_its_condition():
    experiment = rows.make_experiment()
    worker = rows.make_worker()
    for index in range(3):
        rows.make_shard(experiment, worker, index)
    assert Shard.objects.filter(status="PENDING").update(status="READY") == 3
    assert Shard.objects.filter(status="PENDING").update(status="READY") == 0


def test_an_update_that_changes_nothing_counts_all_the_same(one_of_each):
    experiment, shard = one_of_each[Experiment], one_of_each[Shard]
    assert Experiment.objects.filter(id=experiment.id).update(status=experiment.status, name=experiment.name) == 1
    assert Experiment.objects.move(experiment.id, ExperimentStatus.RUNNING, ExperimentStatus.RUNNING)
    assert Shard.objects.move(shard, shard.status)


def test_the_second_of_two_equal_moves_loses(one_of_each):
    experiment = one_of_each[Experiment]
    assert Experiment.objects.move(
        experiment.id, ExperimentStatus.RUNNING, ExperimentStatus.FINALIZING, final_status=ExperimentStatus.FINISHED
    )
    assert not Experiment.objects.move(
        experiment.id, ExperimentStatus.RUNNING, ExperimentStatus.FINALIZING, final_status=ExperimentStatus.FAILED
    )
    assert Experiment.objects.get().final_status == "FINISHED"


def test_a_shard_is_not_moved_from_an_older_attempt(one_of_each):
    stale = one_of_each[Shard]
    Shard.objects.update(attempt=2)
    assert not Shard.objects.move(stale, ShardStatus.READY)
    assert Shard.objects.get().status == "PENDING"


@pytest.mark.parametrize(("later_s", "at_start"), [(-60, True), (0, True), (60, False)])
def test_an_end_before_the_start_becomes_the_start(later_s, at_start, one_of_each):
    now = rows.START + timedelta(seconds=later_s, microseconds=1 if later_s > 0 else 0)
    assert Experiment.objects.move(
        one_of_each[Experiment].id, ExperimentStatus.RUNNING, ExperimentStatus.FINALIZING, ended_at=end_at(now)
    )
    assert Experiment.objects.get().ended_at == (rows.START if at_start else now)


@pytest.mark.django_db(transaction=True)
def test_group_is_stopped_once_under_the_next_version(broker):
    shard = rows.make_shard(rows.make_experiment(), rows.make_worker())
    desired.stop_now([shard.group_id])
    desired.run_from([shard.group_id], rows.START_NS)
    group = ClientGroup.objects.get()
    assert (group.state, group.version, group.projected_version) == ("stop", 2, 2)


@pytest.mark.database(sqlite=False)
@pytest.mark.django_db(transaction=True)
def test_of_processes_that_move_an_experiment_at_once_one_wins():
    experiment = rows.make_experiment()
    won = together(
        4, lambda number: Experiment.objects.move(experiment.id, ExperimentStatus.RUNNING, ExperimentStatus.FINALIZING)
    )
    assert sorted(won) == [False, False, False, True]


@pytest.mark.database(sqlite=False)
@pytest.mark.django_db(transaction=True)
def test_an_event_that_processes_record_at_once_is_recorded_once():
    experiment = rows.make_experiment()
    for name in ("first", "second", "third"):
        together(4, lambda number, name=name: events.record(experiment.id, name))
    assert sorted(Event.objects.values_list("name", flat=True)) == ["first", "second", "third"]


@pytest.mark.database(sqlite=False)
@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_locked_waits_for_the_other_transaction():
    shard = rows.make_shard(rows.make_experiment(), rows.make_worker())

    def lock(number: int) -> bool:
        try:
            with transaction.atomic():
                Shard.objects.select_for_update(nowait=True).get(id=shard.id)
        except DatabaseError:
            return False
        return True

    with transaction.atomic():
        Shard.objects.select_for_update().get(id=shard.id)
        assert together(1, lock) == [False]
    assert together(1, lock) == [True]


@pytest.mark.database(sqlite=False)
@pytest.mark.django_db(transaction=True)
def test_writers_of_one_service_each_get_a_version_of_their_own(broker):
    services.set_record("web", ["10.0.0.1:80"], [1])
    written = together(4, lambda number: [services.set_record("web", [f"10.0.0.{number}:80"], [1]) for _ in range(5)])
    assert sorted(record.version for batch in written for record in batch) == list(range(2, 22))
    assert selectors.record("web").version == 21


def test_database_reads_committed_rows_and_writers_wait(db):
    """Ingest looks under a lock whether a batch is there: an older snapshot would hide the other's commit."""
    if connection.vendor == "sqlite":
        assert connection.settings_dict["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SHOW transaction_isolation" if connection.vendor == "postgresql" else "SELECT @@SESSION.tx_isolation"
        )
        assert cursor.fetchone()[0].lower().replace("-", " ") == "read committed"
