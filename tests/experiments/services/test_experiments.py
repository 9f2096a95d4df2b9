"""Creating and cancelling experiments."""

import itertools
import re

import pytest
from django.utils import timezone

from experiments.models import Event, Experiment, ExperimentStatus
from experiments.services import ending, experiments
from loadgen.arrivals.pacer import ARRIVALS_VERSION
from tests.support.plans import plan

pytestmark = pytest.mark.django_db


def test_an_experiment_is_queued_with_its_workloads_and_an_event(make_experiment):
    experiment = make_experiment()
    assert re.fullmatch(r"\d{12}-[a-z0-9]{4}", experiment.id)
    assert (experiment.status, experiment.seed, experiment.creator) == ("QUEUED", 7, "tester")
    assert experiment.workloads.get().spec["schedule"] == [[1.0, 10], [1.0, 10]]
    assert Event.objects.get().name == "queued"


def test_a_seed_is_drawn_and_stored_when_the_plan_has_none(make_experiment):
    seeds = {make_experiment(seed=None).seed for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.parametrize("process", ["lognormvariate", "weibullvariate"])
def test_a_plan_of_older_arrival_times_is_marked(broker, process):
    pattern = {"process": process, "alpha": 1, "beta": 2} if process == "weibullvariate" else process
    experiment = experiments.create(plan(arrivals_version=1, arrival_pattern=pattern), "x")
    assert experiment.plan["arrivals_version"] == ARRIVALS_VERSION
    event = Event.objects.get(name="other intended times")
    assert f"arrivals by {process} have other times" in event.value


@pytest.mark.parametrize(("version", "process"), [(1, "constant"), (1, "expovariate"), (ARRIVALS_VERSION, "uniform")])
def test_a_plan_with_the_same_arrival_times_is_not_marked(broker, version, process):
    experiments.create(plan(arrivals_version=version, arrival_pattern=process), "x")
    assert list(Event.objects.values_list("name", flat=True)) == ["queued"]


def test_an_id_that_is_taken_is_drawn_again(broker, monkeypatch):
    drawn = itertools.chain(["202601010000-aaaa"] * 3, ["202601010000-bbbb"])
    monkeypatch.setattr(experiments, "new_id", lambda now: next(drawn))
    assert experiments.create(plan(), "x").id == "202601010000-aaaa"
    assert experiments.create(plan(), "x").id == "202601010000-bbbb"


def test_a_queued_experiment_is_cancelled_at_once(make_experiment):
    experiment = ending.cancel(make_experiment().id, "by test")
    assert (experiment.status, experiment.reason) == ("CANCELLED", "by test")


def test_an_ended_experiment_stays_as_it_ended(make_experiment):
    experiment = make_experiment()
    Experiment.objects.update(status=ExperimentStatus.FINISHED, final_status=ExperimentStatus.FINISHED)
    assert ending.cancel(experiment.id, "too late").status == "FINISHED"


def test_experiment_does_not_end_before_its_start(make_experiment):
    experiment = make_experiment()
    start = timezone.now() + timezone.timedelta(seconds=2)
    Experiment.objects.move(experiment.id, ExperimentStatus.QUEUED, ExperimentStatus.RUNNING, started_at=start)
    cancelled = ending.cancel(experiment.id, "by test")
    assert (cancelled.status, cancelled.final_status, cancelled.ended_at) == ("FINALIZING", "CANCELLED", start)


def test_a_cancel_records_when_it_was_requested(make_experiment):
    cancelled = ending.cancel(make_experiment().id, "by test")
    assert cancelled.stop_requested_at == cancelled.ended_at


def test_of_two_cancels_the_first_ones_reason_stays(make_experiment):
    experiment = make_experiment()
    Experiment.objects.move(experiment.id, ExperimentStatus.QUEUED, ExperimentStatus.RUNNING, started_at=timezone.now())
    ending.cancel(experiment.id, "first")
    assert ending.cancel(experiment.id, "second").reason == "first"


def test_an_end_that_another_process_has_made_changes_nothing(make_experiment):
    experiment = make_experiment()
    Experiment.objects.move(experiment.id, ExperimentStatus.QUEUED, ExperimentStatus.RUNNING, started_at=timezone.now())
    experiment.refresh_from_db()
    ending.cancel(experiment.id, "by test")
    assert not ending.fail(experiment, "too late")
    experiment.refresh_from_db()
    assert (experiment.final_status, experiment.reason) == ("CANCELLED", "by test")
