"""A plan's own events are put on the timeline once their time has come, each exactly once."""

from datetime import timedelta

import pytest
from django.utils import timezone

from experiments.models import Experiment
from experiments.services import events
from experiments.services.reconcile import reconcile

pytestmark = pytest.mark.django_db

PLANNED = [{"at": 0, "name": "warm"}, {"at": 1, "name": "half", "value": "way"}, {"at": 2, "name": "end"}]


@pytest.fixture
def experiment(make_experiment):
    return make_experiment(events=PLANNED)


def at_time(experiment, seconds, **fields):
    """The experiment as it is so long after its start."""
    start = timezone.now() - timedelta(seconds=seconds)
    Experiment.objects.filter(id=experiment.id).update(status="RUNNING", started_at=start, **fields)
    experiment.refresh_from_db()
    events.record_planned(experiment)
    own = experiment.events.filter(key__startswith="plan:")
    return [(event.name, event.value, (event.timestamp - start).total_seconds()) for event in own]


def test_an_event_comes_with_its_time_and_only_once(experiment):
    assert at_time(experiment, -0.5) == []
    assert [name for name, _, _ in at_time(experiment, 0.5)] == ["warm"]
    assert [name for name, _, _ in at_time(experiment, 1.5)] == ["warm", "half"]
    assert [name for name, _, _ in at_time(experiment, 1.5)] == ["warm", "half"]


def test_event_time_counts_from_the_start(experiment):
    assert at_time(experiment, 100) == [("warm", "", 0), ("half", "way", 1), ("end", "", 2)]


def test_events_beyond_an_early_end_never_come(experiment):
    ended = timezone.now() - timedelta(seconds=98.9)
    happened = at_time(experiment, 100, ended_at=ended, final_status="CANCELLED")
    assert [name for name, _, _ in happened] == ["warm", "half"]


def test_event_at_the_very_end_is_recorded(experiment):
    ended = timezone.now() - timedelta(seconds=98.01)
    assert [name for name, _, _ in at_time(experiment, 100, ended_at=ended, final_status="FINISHED")] == [
        "warm",
        "half",
        "end",
    ]


def test_two_events_of_one_name_are_two_events(make_experiment):
    experiment = make_experiment(events=[{"at": 1, "name": "tick"}, {"at": 1, "name": "tick"}])
    assert at_time(experiment, 5) == [("tick", "", 1), ("tick", "", 1)]


@pytest.mark.django_db(transaction=True)
def test_the_reconciler_records_them(experiment, broker):
    start = timezone.now() - timedelta(seconds=1.5)
    Experiment.objects.filter(id=experiment.id).update(status="RUNNING", started_at=start, start_broker_ns=1)
    reconcile()
    reconcile()
    own = experiment.events.filter(key__startswith="plan:")
    assert [event.name for event in own][:2] == ["warm", "half"]
    assert own.count() <= len(PLANNED)
