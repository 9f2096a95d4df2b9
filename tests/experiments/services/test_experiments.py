"""Creating and cancelling experiments."""

import itertools
import re

import pytest
from django.utils import timezone

from experiments.models import Event, Experiment
from experiments.services import experiments, ids
from experiments.services.transitions import move_experiment
from tests.support.plans import plan

pytestmark = pytest.mark.django_db

Status = Experiment.Status


def test_an_experiment_is_queued_with_its_workloads_and_an_event(make_experiment):
    experiment = make_experiment()
    assert re.fullmatch(r"\d{12}-[a-z0-9]{4}", experiment.id)
    assert (experiment.status, experiment.seed, experiment.creator) == ("QUEUED", 7, "tester")
    assert experiment.workloads.get().spec["schedule"] == [[1.0, 10], [1.0, 10]]
    assert Event.objects.get().name == "queued"


def test_a_seed_is_drawn_and_stored_when_the_plan_has_none(make_experiment):
    seeds = {make_experiment(seed=None).seed for _ in range(3)}
    assert len(seeds) == 3


def test_an_id_that_is_taken_is_drawn_again(broker, monkeypatch):
    drawn = itertools.chain(["202601010000-aaaa"] * 3, ["202601010000-bbbb"])
    monkeypatch.setattr(ids, "new_id", lambda now: next(drawn))
    assert experiments.create(plan(), "x").id == "202601010000-aaaa"
    assert experiments.create(plan(), "x").id == "202601010000-bbbb"


def test_a_queued_experiment_is_cancelled_at_once(make_experiment):
    experiment = experiments.cancel(make_experiment().id, "by test")
    assert (experiment.status, experiment.reason) == ("CANCELLED", "by test")


def test_an_ended_experiment_stays_as_it_ended(make_experiment):
    experiment = make_experiment()
    Experiment.objects.update(status=Status.FINISHED, ending=Status.FINISHED)
    assert experiments.cancel(experiment.id, "too late").status == "FINISHED"


def test_an_experiment_that_is_about_to_start_ends_no_earlier_than_its_start(make_experiment):
    experiment = make_experiment()
    start = timezone.now() + timezone.timedelta(seconds=2)
    move_experiment(experiment.id, Status.QUEUED, Status.RUNNING, start=start)
    cancelled = experiments.cancel(experiment.id, "by test")
    assert (cancelled.status, cancelled.ending, cancelled.end) == ("FINALIZING", "CANCELLED", start)
