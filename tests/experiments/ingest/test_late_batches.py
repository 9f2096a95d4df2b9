"""A batch that comes after the end of its experiment gets into the summary, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import redis

from experiments.ingest import ingest as ingest_module
from experiments.ingest.ingest import ingest
from experiments.models import Batch, Experiment
from experiments.services import experiments, lifecycle
from experiments.services.reconcile import reconcile
from loadgen.protocol.keys import ack_key
from tests.support.batches import make_experiment, run_payloads, shards_of

pytestmark = [pytest.mark.costly, pytest.mark.django_db, pytest.mark.usefixtures("broker")]


class Killed(BaseException):
    """The process ends here."""


def make_ended() -> tuple[Experiment, list[bytes]]:
    """An experiment that ended with the first and last batch of five in its summary, and the three that are late."""
    experiment = make_experiment(status="FINISHED")
    first, *late, final = run_payloads(shards_of(experiment)[0], batches=5)
    for batch in (first, final):
        ingest(batch)
    lifecycle.revise_summary(experiment)
    assert seen(experiment) == (2, 12, False)
    return experiment, late


def seen(experiment: Experiment) -> tuple[int, int, bool]:
    """Batches in its summary, missing rows, and whether it is marked as stale."""
    stored = Experiment.objects.get(pk=experiment.pk)
    return stored.summary["batches"], stored.summary["account"]["missing"], stored.summary_stale


def revise(experiment: Experiment) -> None:
    lifecycle.revise_summary(Experiment.objects.get(pk=experiment.pk))


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str, *batches: bytes) -> None:
    """When `lifecycle.<name>` has returned its result, these batches are ingested, one each time."""
    original, waiting = getattr(lifecycle, name), list(batches)

    def interrupted(experiment: Experiment) -> object:
        result = original(experiment)
        if waiting:
            ingest(waiting.pop(0))
        return result

    monkeypatch.setattr(lifecycle, name, interrupted)


def test_reconciler_revises_the_summary_after_late_batches():
    experiment, late = make_ended()
    for batch in late:
        ingest(batch)
    assert seen(experiment) == (2, 12, True)

    reconcile()

    assert seen(experiment) == (5, 0, False)
    experiment.refresh_from_db()
    assert experiment.summary["account"]["closes"] is True
    assert experiment.summary["verdict"] == {"status": "VALID", "reasons": []}


def test_summary_is_revised_while_another_experiment_runs(broker: redis.Redis):
    experiment, (batch, *_) = make_ended()
    make_experiment(status="RUNNING")
    broker.lpush("galileo.ingest.0", b"more")

    ingest(batch)
    reconcile()

    assert seen(experiment) == (3, 8, False)


def test_each_pass_revises_one_summary():
    marked = [make_ended() for _ in range(2)]
    for _, (batch, *_) in marked:
        ingest(batch)

    stale = []
    for _ in range(3):
        stale.append([seen(experiment)[2] for experiment, _ in marked])
        reconcile()

    assert stale == [[True, True], [False, True], [False, False]]


def test_failing_summary_does_not_block_the_others(monkeypatch, caplog):
    (broken, (first, *_)), (sound, (second, *_)) = make_ended(), make_ended()
    ingest(first)
    ingest(second)
    original = lifecycle.summarise

    def fail_for_one(experiment: Experiment) -> dict:
        if experiment.pk == broken.pk:
            raise ArithmeticError("impossible")
        return original(experiment)

    monkeypatch.setattr(lifecycle, "summarise", fail_for_one)
    reconcile()

    assert (seen(broken)[2], seen(sound)) == (True, (3, 8, False))
    assert f"the summary of experiment {broken.pk} failed" in caplog.text


@pytest.mark.parametrize("status", ["RUNNING", "FINALIZING"])
def test_running_experiment_gets_no_summary_and_no_flag(status):
    experiment = make_experiment(status=status)
    for batch in run_payloads(shards_of(experiment)[0]):
        ingest(batch)
    revise(experiment)

    experiment.refresh_from_db()
    assert (experiment.summary, experiment.summary_stale) == (None, False)


def test_ended_experiment_without_a_summary_gets_one():
    experiment = make_experiment(status="FAILED")
    for batch in run_payloads(shards_of(experiment)[0]):
        ingest(batch)
    revise(experiment)

    assert seen(experiment) == (3, 0, False)


def test_batch_during_a_revision_keeps_the_flag(monkeypatch):
    experiment, (one, other, third) = make_ended()
    ingest(one)

    with monkeypatch.context() as patch:
        interrupt(patch, "summarise", other)
        revise(experiment)
    assert seen(experiment) == (3, 8, True)

    with monkeypatch.context() as patch:
        interrupt(patch, "is_summary_stale", third)
        revise(experiment)
    assert seen(experiment) == (5, 0, False), "it came in time for the summary itself"


def test_batch_between_two_counts_keeps_the_flag(monkeypatch):
    experiment, (one, *_) = make_ended()
    Experiment.objects.update(summary_stale=True)

    interrupt(monkeypatch, "is_summary_stale", one)
    revise(experiment)
    assert seen(experiment) == (2, 12, True)

    revise(experiment)
    assert seen(experiment) == (3, 8, False)


def test_flag_without_a_new_batch_is_cleared_cheaply(monkeypatch):
    experiment, _ = make_ended()
    ingest(run_payloads(shards_of(experiment)[0], batches=5)[0])  # again
    assert seen(experiment) == (2, 12, True)

    monkeypatch.setattr(lifecycle, "summarise", lambda _: pytest.fail("there is nothing new"))
    revise(experiment)

    assert seen(experiment) == (2, 12, False)


@contextmanager
def killed_at(module: ModuleType, function: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process is killed where it would call this function of the module."""

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, function, kill)
        with pytest.raises(Killed):
            yield


def test_flag_survives_a_killed_revision(monkeypatch):
    experiment, (batch, *_) = make_ended()
    ingest(batch)

    with killed_at(lifecycle, "summarise", monkeypatch):
        revise(experiment)
    assert seen(experiment) == (2, 12, True)

    revise(experiment)
    assert seen(experiment) == (3, 8, False)


def test_batch_sent_again_sets_the_flag_after_a_kill(monkeypatch, broker):
    experiment, (batch, *_) = make_ended()
    answers = broker.llen(ack_key("pi1"))

    with killed_at(ingest_module, "mark_summary_stale", monkeypatch):
        ingest(batch)
    assert (Batch.objects.count(), broker.llen(ack_key("pi1"))) == (3, answers), "stored, not acknowledged"
    assert seen(experiment) == (2, 12, False)

    ingest(batch)
    assert (seen(experiment), broker.llen(ack_key("pi1"))) == ((2, 12, True), answers + 1)


def test_deleted_experiment_is_not_revised():
    experiment, (batch, *_) = make_ended()
    ingest(batch)
    held = Experiment.objects.get(pk=experiment.pk)
    experiments.delete(experiment.pk)

    lifecycle.revise_summary(held)

    assert not Experiment.objects.exists()
