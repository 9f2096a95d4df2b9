"""A batch that is ingested while the summary of its ended experiment is stored: the mark that it leaves is not lost."""

import time
from threading import Event

import pytest

from experiments.ingest.ingest import ingest
from experiments.models import Experiment
from experiments.services import lifecycle
from tests.databases.threads import together
from tests.support.batches import make_experiment, run_payloads, shards_of

pytestmark = [
    pytest.mark.database(sqlite=False),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("broker"),
]


def test_a_mark_that_comes_while_another_is_being_cleared_stays(monkeypatch):
    experiment = make_experiment(status="FINISHED")
    first, late, final = run_payloads(shards_of(experiment)[0])
    for batch in (first, final):
        ingest(batch)
    lifecycle.revise_summary(experiment)
    Experiment.objects.update(summary_stale=True)  # a duplicate came
    counted_under_lock, count = Event(), lifecycle._stored_batches
    counts = []

    def count_slowly(of):
        counts.append(count(of))
        if len(counts) == 2:  # is_summary_stale has counted before
            counted_under_lock.set()
            deadline = time.monotonic() + 30
            while count(of) == counts[-1]:
                assert time.monotonic() < deadline, "the late batch was never committed"
            time.sleep(0.3)  # its mark waits for our lock now
        return counts[-1]

    monkeypatch.setattr(lifecycle, "_stored_batches", count_slowly)

    def revise_or_ingest(number):
        if number == 0:
            lifecycle.revise_summary(Experiment.objects.get())
        else:
            assert counted_under_lock.wait(30)
            ingest(late)

    together(2, revise_or_ingest)
    experiment.refresh_from_db()
    assert (experiment.summary["batches"], experiment.summary_stale) == (2, True)

    lifecycle.revise_summary(experiment)
    experiment.refresh_from_db()
    assert (experiment.summary["batches"], experiment.summary_stale) == (3, False)
