"""PostgreSQL holds each experiment's traces in a partition of its own, and nobody waits for another's."""

from __future__ import annotations

from threading import Event

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from experiments.analysis.account import account_of
from experiments.ingest.received import read
from experiments.ingest.store import store
from experiments.models import Experiment, Trace
from experiments.services import experiments, lifecycle, partitions
from tests.databases import rows
from tests.databases.threads import elsewhere, unfinished
from tests.support.batches import make_experiment, run_payloads, shards_of
from tests.support.plans import plan
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.database(only="postgresql"), pytest.mark.django_db(transaction=True)]

# What would wait until another session ends, and so for ever, fails; no test expects that something takes this long.
TOO_LONG_S = 20


@pytest.fixture(autouse=True)
def no_endless_wait(db):
    run(f"SET lock_timeout = '{TOO_LONG_S}s'")
    yield
    run("RESET lock_timeout")


@pytest.fixture(autouse=True)
def no_partition_of_an_earlier_test(db):
    while present():
        assert partitions.drop_unowned()


def test_an_experiment_is_queued_with_a_partition_of_its_own(broker):
    queued = {experiments.create(plan(), "ada").id for _ in range(3)}
    assert present() == queued


def test_an_experiment_that_is_not_created_leaves_no_partition(broker):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        experiments.create(plan(), "ada")
        raise ZeroDivisionError
    assert present() == set()


def test_id_is_free_again_once_its_left_partition_is_not_read(broker):
    experiments.create(plan(), "ada", experiment_id="again")
    with unfinished(Trace.objects.count):
        experiments.delete("again")
        with pytest.raises(experiments.IdTaken, match="the traces of an earlier experiment again are still being read"):
            experiments.create(plan(), "ada", experiment_id="again")
        assert not Experiment.objects.exists()
    assert present() == {"again"}
    experiments.create(plan(), "ada", experiment_id="again")
    assert present() == {"again"}


@pytest.mark.parametrize("experiment_id", ["Größe", "it's", 'a "quoted" id', "%s", "x" * 24])
def test_any_id_can_name_a_partition(experiment_id):
    shard = rows.make_shard(rows.make_experiment(experiment_id), rows.make_worker(), group_id="g")
    rows.trace(shard).save(force_insert=True)
    assert held() == {experiment_id: 1}
    Experiment.objects.all().delete()
    partitions.remove(experiment_id)
    assert present() == set()


def test_a_batch_is_stored_in_its_experiments_partition():
    first, second = make_experiment(), make_experiment([[1.0, 7.0]], shards=2)
    for experiment in (first, second):
        ingest(experiment)
    assert held() == {first.id: 20, second.id: 7}


def test_trace_is_refused_twice_and_without_a_partition():
    (shard,) = shards_of(make_experiment())
    rows.trace(shard).save(force_insert=True)
    with pytest.raises(IntegrityError, match="_pkey"):
        rows.trace(shard).save(force_insert=True)
    with pytest.raises(IntegrityError, match="no partition"):
        rows.trace(shard, row=1, experiment_id="elsewhere").save(force_insert=True)
    assert Trace.objects.count() == 1


def test_rows_of_an_experiment_are_read_from_its_partition():
    experiment, *others = [make_experiment() for _ in range(3)]
    plan_of_the_query = Trace.objects.filter(experiment=experiment, client=1).order_by().explain()
    assert f"experiments_trace_{experiment.id}" in plan_of_the_query
    assert not [other.id for other in others if other.id in plan_of_the_query]


def test_no_column_but_the_key_has_an_index():
    make_experiment()
    found = answer("SELECT indexdef FROM pg_indexes WHERE starts_with(tablename, 'experiments_trace')")
    definitions = [definition for (definition,) in found]
    assert len(definitions) == 2  # the table's, and its partition's
    assert all("UNIQUE" in text and text.endswith("(id, experiment_id)") for text in definitions)


def test_account_and_summary_read_only_their_own_partition():
    experiment, other = make_experiment(status="FINISHED"), make_experiment()
    ingest(experiment)
    with unfinished(lambda: run(f'LOCK TABLE ONLY "experiments_trace_{other.id}" IN ACCESS EXCLUSIVE MODE')):
        assert account_of(experiment).rows == 20
        lifecycle.revise_summary(experiment)
    experiment.refresh_from_db()
    assert experiment.summary is not None


def test_creation_waits_for_neither_reads_nor_batches(broker):
    read_for_long, being_stored = make_experiment(), make_experiment()
    ingest(read_for_long)
    with unfinished(Trace.objects.count), unfinished(lambda: ingest(being_stored)):
        queued = experiments.create(plan(), "ada")
        assert queued.id in present()


def test_batches_and_accounts_do_not_wait_for_a_creation(broker):
    experiment = make_experiment()
    with unfinished(lambda: experiments.create(plan(), "ada")):
        ingest(experiment)
        assert account_of(experiment).rows == 20
    assert Experiment.objects.count() == 2


def test_deletion_drops_its_own_partition_and_nothing_else(broker):
    goes, stays = make_experiment(status="FINISHED"), make_experiment()
    for experiment in (goes, stays):
        ingest(experiment)
    experiments.delete(goes.id)
    assert held() == {stays.id: 20}
    assert present() == {stays.id}


def test_partition_read_during_deletion_is_dropped_by_the_next(broker):
    goes, stays, goes_later = make_experiment(status="FINISHED"), make_experiment(), make_experiment(status="FINISHED")
    for experiment in (goes, stays):
        ingest(experiment)
    with unfinished(Trace.objects.count):
        experiments.delete(goes.id)
        assert held() == {stays.id: 20}
    assert present() == {goes.id, stays.id, goes_later.id}
    experiments.delete(goes_later.id)
    assert present() == {stays.id}


def test_deletion_drops_its_own_partition_and_some_left_ones(broker):
    experiment = make_experiment(status="FINISHED")
    for number in range(partitions.MAX_DROPPED + 5):
        partitions.add(f"left {number}")
    experiments.delete(experiment.id)
    assert len(present()) == 6
    assert experiment.id not in present()


def test_deletion_leaves_the_sessions_lock_timeout_as_it_was(broker):
    goes, goes_later = make_experiment(status="FINISHED"), make_experiment(status="FINISHED")
    with transaction.atomic():
        with unfinished(Trace.objects.count):
            experiments.delete(goes.id)
        assert answer("SHOW lock_timeout") == [(f"{TOO_LONG_S}s",)]
        experiments.delete(goes_later.id)
        assert answer("SHOW lock_timeout") == [(f"{TOO_LONG_S}s",)]


def test_another_fault_is_not_taken_for_a_long_read(broker):
    experiment = make_experiment(status="FINISHED")
    with unfinished(Trace.objects.count):
        run(f"SET statement_timeout = {partitions.DROP_LOCK_TIMEOUT_MS // 2}")
        try:
            with pytest.raises(OperationalError, match="statement timeout"):
                experiments.delete(experiment.id)
        finally:
            run("RESET statement_timeout")
    assert Experiment.objects.get() == experiment


def test_deletion_and_creation_go_on_during_an_ingest(broker):
    ended = [make_experiment(status="FINISHED") for _ in range(5)]
    for experiment in ended:
        ingest(experiment)
    ingested = make_experiment([[60.0, 10.0]])
    with elsewhere(lambda: ingest(ingested, batches=60)):
        for experiment in ended:
            experiments.delete(experiment.id)
            experiments.create(plan(), "ada")
    assert held() == {ingested.id: 600}
    assert Experiment.objects.count() == 6


def test_partition_dropped_by_another_deletion_is_tolerated(broker):
    experiment = make_experiment(status="FINISHED")
    partitions.add("left by an earlier one")
    dropped = Event()
    delete = elsewhere(lambda: dropped.wait(TOO_LONG_S) and experiments.delete(experiment.id))
    with delete as deleting, transaction.atomic():
        assert partitions.drop_unowned()
        dropped.set()
        wait_for(lambda: deleting.done() or answer("SELECT FROM pg_locks WHERE NOT granted"), "the deletion")
    assert not Experiment.objects.exists()


def test_a_late_batch_of_a_deleted_experiment_belongs_to_nothing(broker):
    experiment = make_experiment(status="FINISHED")
    late = read(run_payloads(shards_of(experiment)[0])[0])
    experiments.delete(experiment.id)
    assert store(late).experiment_id is None


def ingest(experiment, batches=3):
    for shard in shards_of(experiment):
        for payload in run_payloads(shard, batches=batches):
            assert store(read(payload)).new


def run(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)


def answer(query):
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def held():
    """Rows by the partition that holds them."""
    counts = answer(
        "SELECT relname, count(*) FROM experiments_trace AS trace"
        " JOIN pg_class ON pg_class.oid = trace.tableoid GROUP BY relname"
    )
    return {name.removeprefix("experiments_trace_"): count for name, count in counts}


def present():
    """The partitions that there are, by experiment."""
    names = answer(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = 'experiments_trace'::regclass"
    )
    return {name.removeprefix("experiments_trace_") for (name,) in names}
