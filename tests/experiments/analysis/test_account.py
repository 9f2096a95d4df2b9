"""Every planned arrival ends as one row, and what does not add up is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest

from experiments.analysis.account import account_of
from experiments.analysis.shard_scope import planned_of
from experiments.ingest.ingest import ingest
from experiments.models import Experiment, SecondStats, Shard, Trace
from loadgen.protocol.messages import Counters
from loadgen.protocol.outcomes import CONNECT_OUTCOMES, Outcome
from tests.support.batches import Row, counters_of, make_experiment, payload, row, rows_of, run_payloads, shards_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("broker")]

KINDS = list(Outcome)


def deliver(experiment: Experiment, change: Callable[[int, Row], Row] = lambda number, row: row) -> None:
    for shard in shards_of(experiment):
        for batch in run_payloads(shard, rows_of(shard, change)):
            ingest(batch)


def as_kind(number: int, arrival: Row) -> Row:
    return row(arrival.client, arrival.sequence, arrival.intended_ns, KINDS[number % len(KINDS)])


def test_complete_run_has_one_row_per_planned_arrival():
    experiment = make_experiment(shards=2, workers=("pi1", "pi2"), status="FINISHED")
    deliver(experiment)
    account = account_of(experiment)
    assert (account.planned, account.rows, account.sent, account.completed) == (20, 20, 20, 20)
    assert (account.missing, account.lost, account.not_sent, account.contradictions()) == (0, 0, 0, [])
    assert account.complete


def test_each_outcome_has_a_line_of_the_account():
    experiment = make_experiment([[1.0, float(len(KINDS))]], clients=1, status="FINISHED")
    deliver(experiment, as_kind)
    account = account_of(experiment)
    assert account.contradictions() == []
    assert (account.planned, account.completed, account.dropped, account.late, account.cut) == (len(KINDS), 1, 1, 1, 1)
    assert account.errors == {"timeout": 1, "reset": 1, "closed": 1, "malformed": 1, "aborted": 1, "redirect": 1}
    assert list(account.connect_failed.values()) == [1] * len(CONNECT_OUTCOMES)
    assert account.connect_failed["no_route"] == account.connect_failed["connect_no_port"] == 1
    assert account.sent == 7
    assert account.to_dict()["closes"] is True


def test_workloads_with_equal_client_numbers_are_counted_apart():
    experiment = make_experiment([[2.0, 10.0]], [[2.0, 5.0]], status="FINISHED")
    deliver(experiment)
    account = account_of(experiment)
    assert (account.planned, account.distinct, account.contradictions()) == (30, 30, [])


def test_planned_arrivals_are_computed_from_the_plan():
    whole = shards_of(make_experiment([[1.0, 7.0], [0.5, 9.0]], clients=5))
    parts = shards_of(make_experiment([[1.0, 7.0], [0.5, 9.0]], clients=5, shards=3))
    assert sum(map(planned_of, parts)) == sum(map(planned_of, whole)) == 11


def test_stored_number_of_planned_arrivals_is_used():
    experiment = make_experiment(status="FINISHED")
    deliver(experiment)
    Shard.objects.update(planned=21)
    account = account_of(experiment)
    assert account.planned == 21
    assert "planned 20 arrivals, but the plan gives it 21" in " ".join(account.contradictions())
    assert not account.complete


def test_rows_of_an_absent_batch_are_missing():
    experiment = make_experiment(status="FINISHED")
    first, _, final = run_payloads(shards_of(experiment)[0])
    ingest(first)
    ingest(final)
    account = account_of(experiment)
    assert (account.rows, account.missing, account.lost, account.contradictions()) == (13, 7, 0, [])
    assert not account.complete


def test_arrivals_without_rows_of_a_lost_shard_are_lost():
    experiment = make_experiment(shards=2, status="FINISHED")
    here, gone = shards_of(experiment)
    for batch in run_payloads(here):
        ingest(batch)
    ingest(run_payloads(gone)[0])
    Shard.objects.filter(id=gone.id).update(status="LOST")
    account = account_of(experiment)
    assert (account.planned, account.rows, account.lost, account.missing) == (20, 14, 6, 0)
    assert account.contradictions() == []


def test_arrivals_skipped_by_a_restarted_shard_are_lost():
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = rows_of(shard)
    ingest(payload(shard, rows[:5]))
    Shard.objects.update(attempt=2)
    (shard,) = shards_of(experiment)
    rest = rows[9:]
    counters = replace(counters_of(rest), skipped=9)
    ingest(payload(shard, rest, first_row=1 << 28, end="finished", counters=counters))
    account = account_of(experiment)
    assert (account.rows, account.lost, account.missing, account.contradictions()) == (16, 4, 0, [])


def test_skipped_arrivals_count_towards_the_plan_of_a_takeover():
    experiment = make_experiment(status="FINISHED")
    Shard.objects.update(attempt=2)
    (shard,) = shards_of(experiment)
    rest = rows_of(shard)[9:]
    counters = replace(counters_of(rest), skipped=8)
    ingest(payload(shard, rest, first_row=1 << 28, end="finished", counters=counters))
    account = account_of(experiment)
    assert (account.rows, account.lost) == (11, 9)
    assert account.contradictions() == [
        "shard " + str(shard) + " planned 11 arrivals and skipped 8, but the plan gives it 20"
    ]


def test_shard_restarted_before_the_start_is_held_to_its_plan():
    experiment = make_experiment(status="FINISHED")
    Shard.objects.update(attempt=2)
    deliver(experiment, lambda number, arrival: arrival)
    Shard.objects.update(planned=21)
    account = account_of(experiment)
    assert (account.rows, account.lost) == (20, 0)
    assert len(account.contradictions()) == 2


def test_experiment_that_never_ran_has_an_empty_account():
    experiment = make_experiment(status="CANCELLED")
    experiment.groups.all().delete()
    account = account_of(experiment)
    assert (account.planned, account.rows, account.contradictions()) == (0, 0, [])


def contradictions(experiment: Experiment) -> str:
    return "; ".join(account_of(experiment).contradictions())


def test_arrival_sent_by_two_shards_is_a_contradiction():
    experiment = make_experiment(shards=2, status="FINISHED")
    deliver(experiment)
    Trace.objects.filter(client=1, sequence=0).update(client=0)
    assert "20 rows name only 19 different arrivals" in contradictions(experiment)


def test_row_deleted_from_the_database_is_a_contradiction():
    experiment = make_experiment(status="FINISHED")
    deliver(experiment)
    Trace.objects.filter(client=1, sequence=0).delete()
    found = contradictions(experiment)
    assert "the stored batches held 20 rows, but the database holds 19" in found
    assert "the statistics count 20 arrivals, but the rows 19" in found


def test_statistics_that_differ_from_rows_are_a_contradiction():
    experiment = make_experiment(status="FINISHED")
    deliver(experiment)
    SecondStats.objects.filter(second=SecondStats.objects.earliest("second").second).update(sent=0)
    assert "the statistics count 10 sent, but the rows 20" in contradictions(experiment)


def test_sent_row_without_a_sending_time_is_a_contradiction():
    experiment = make_experiment(status="FINISHED")
    deliver(experiment, lambda number, row: replace(row, sent_ns=-1, done_ns=-1) if number == 3 else row)
    assert "20 rows were sent by their outcome, but 19 have a sending time" in contradictions(experiment)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"completed": 19, "dropped": 1}, "counted 19 as completed, but 20 of its rows are"),
        ({"rows": 19}, "recorded 19 rows, but the database holds 20"),
        ({"planned": 22}, "planned 22 arrivals, but the plan gives it 20"),
    ],
)
def test_totals_that_differ_from_rows_are_a_contradiction(change, sentence):
    experiment = make_experiment(status="FINISHED")
    deliver(experiment)
    honest = Counters(planned=20, rows=20, sent=20, completed=20)
    Shard.objects.update(totals=asdict(replace(honest, **change)))
    assert sentence in contradictions(experiment)


def test_more_rows_than_planned_are_a_contradiction():
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = [*rows_of(shard), row(0, 99, 1)]
    for batch in run_payloads(shard, rows):
        ingest(batch)
    assert (
        "20 arrivals were planned, but rows, untraced, missing, lost and cut without a row add up to 21"
        in contradictions(experiment)
    )


def test_arrivals_cut_without_rows_are_in_the_account():
    experiment = make_experiment([[2.0, 20.0]], status="FINISHED")
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard, rows_of(shard)[:25]):
        ingest(batch)
    Shard.objects.update(totals={**Shard.objects.get().totals, "planned": 25, "cut_short": True})
    found = account_of(experiment)
    assert (found.planned, found.rows, found.cut_without_row, found.cut) == (40, 25, 15, 15)
    assert found.complete
    Shard.objects.update(totals={**Shard.objects.get().totals, "cut_short": False})
    assert not account_of(experiment).complete
