"""What the recorder stores: once, exactly, and gone with its experiment in one statement."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from experiments.models import Event, Experiment, Recording, TelemetrySample
from experiments.recording.backlog import Arrival, Taken, Tally
from experiments.recording.store import store
from experiments.services import experiments, nodes
from loadgen.protocol.topics import MAX_METRIC, MAX_NODE, MAX_NS, MAX_SUBSYSTEM, Mark, Sample
from tests.databases import rows

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def taken(*contents: Sample | Mark, tallies: dict | None = None) -> Taken:
    return Taken([Arrival(rows.START, content) for content in contents], tallies or {})


@pytest.fixture
def experiment() -> Experiment:
    return rows.make_experiment(starting_at=rows.START - timedelta(seconds=1))


def test_longest_names_and_extreme_values_come_back_exactly(experiment):
    samples = [
        Sample("🚀" * MAX_NODE, "é" * MAX_METRIC, "日" * MAX_SUBSYSTEM, MAX_NS, 1.7976931348623157e308),
        Sample("pi", "cpu", "", 0, -0.1),
        Sample("pi", "cpu", "", 1_795_309_323_456_789_012, 2.2250738585072014e-308),
        Sample("pi %s 'quoted'", "cpu", "\\", 1, 1 / 3),
    ]
    store(taken(*samples))
    stored = {
        Sample(row.node, row.metric, row.subsystem, row.timestamp_ns, row.value) for row in experiment.telemetry.all()
    }
    assert stored == set(samples)


def test_samples_stored_again_are_there_once(experiment):
    first, second = Sample("pi", "cpu", "", 1, 1.0), Sample("pi", "cpu", "", 2, 2.0)
    mark = Mark(rows.START_NS, "scaled-up", "web\n3 🚀")
    for batch in ([first, mark], [first, second, mark]):
        store(taken(*batch))
    assert list(experiment.telemetry.values_list("timestamp_ns", "value")) == [(1, 1.0), (2, 2.0)]
    assert [(event.name, event.value) for event in Event.objects.all()] == [("scaled-up", "web\n3 🚀")]


def test_counts_add_up_and_the_first_example_stays(experiment):
    for example in ("telem/x: no", "telem/y: no"):
        store(taken(tallies={rows.START.replace(microsecond=0): Tally(1, 2, example)}))
    recording = Recording.objects.get()
    assert (recording.unparsable, recording.dropped, recording.example) == (2, 4, "telem/x: no")


def test_an_experiment_is_taken_up_once(broker, experiment):
    nodes.store_nodes(also_known=True)
    began = Recording.objects.get().began_at
    nodes.store_nodes(also_known=True)
    assert Recording.objects.get().began_at == began


def test_sample_of_a_deleted_experiment_leaves_nothing_behind(experiment):
    gone = rows.sample("202611220102-zz99")
    if connection.vendor == "mysql":  # what is ignored there includes a missing experiment
        TelemetrySample.objects.bulk_create([gone], ignore_conflicts=True)
    else:
        with pytest.raises(IntegrityError), transaction.atomic():
            TelemetrySample.objects.bulk_create([gone], ignore_conflicts=True)
    assert not TelemetrySample.objects.exists()


def test_a_deletion_takes_all_samples_in_one_statement(broker, experiment):
    other = rows.make_experiment("202611220102-zz99", starting_at=timezone.now())
    rows.sample(other.id).save()
    store(taken(*(Sample("pi", "cpu", "", number, 1.0) for number in range(3000))))
    assert TelemetrySample.objects.count() == 3001
    Experiment.objects.filter(pk=experiment.pk).update(status="FINISHED", final_status="FINISHED")
    with CaptureQueriesContext(connection) as queries:
        experiments.delete(experiment.id)
    about_samples = [query["sql"] for query in queries if "experiments_telemetrysample" in query["sql"]]
    assert len(about_samples) == 1
    assert about_samples[0].startswith("DELETE FROM")
    assert TelemetrySample.objects.get().experiment_id == other.id
