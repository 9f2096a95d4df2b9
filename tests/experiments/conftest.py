"""Experiments for tests."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.authtoken.models import Token

from experiments.models import Experiment, ExperimentStatus
from experiments.services import experiments, workers
from experiments.services.shards import place_group
from tests.support.fleet import Fleet
from tests.support.plans import plan


@pytest.fixture(scope="session", autouse=True)
def ingest_without_pauses():
    """No other process writes to the database of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.ingest.ingest.MAX_PAUSE_S", 0.0)
        yield


@pytest.fixture
def api(db):
    """A client with an administrator's token; a programming error in a view fails the test."""
    token = Token.objects.create(user=User.objects.create_superuser("admin"))
    return Client(headers={"Authorization": f"Token {token.key}"})


@pytest.fixture
def placed(make_experiment):
    """Makes an experiment that is starting, with its group placed on the workers there are."""

    def place(**fields):
        experiment = make_experiment(**fields)
        assert Experiment.objects.move(experiment.id, ExperimentStatus.QUEUED, ExperimentStatus.STARTING)
        place_group(experiment, experiment.workloads.get())
        return experiment

    return place


@pytest.fixture
def make_experiment(db, broker):
    """Queues an experiment of a small plan; keyword arguments are those of tests.support.plans.plan."""

    def make(**fields):
        return experiments.create(plan(**fields), creator="tester")

    return make


@pytest.fixture
def fleet(broker, monkeypatch):
    monkeypatch.setattr(workers, "broker_is_fresh", lambda: False)
    monkeypatch.setattr(workers, "MISSED", timedelta(microseconds=1))
    monkeypatch.setattr(workers, "AFTER_GAP", timedelta(0))
    return Fleet(broker)
