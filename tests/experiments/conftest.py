"""Experiments for tests."""

import pytest

from experiments.services import experiments
from tests.support.plans import plan


@pytest.fixture
def make_experiment(db, broker):
    """Queues an experiment of a small plan; keyword arguments are those of tests.support.plans.plan."""

    def make(**fields):
        return experiments.create(plan(**fields), creator="tester")

    return make
