"""What was not traced has no row, and is in every figure: the account closes, and what is really missing is found."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.analysis import report, summary
from experiments.analysis.account import account_of
from experiments.analysis.host_shares import hosts_of
from experiments.analysis.intervals import intervals_of
from experiments.analysis.target_log import compare
from experiments.ingest.ingest import ingest
from experiments.models import Batch, Experiment, SecondStats, Trace
from loadgen.protocol.outcomes import Outcome, account_line
from loadgen.protocol.request_ids import request_id
from loadgen.protocol.trace_batch import NO_HOST
from routing.models import RoutingRevision
from tests.support.batches import (
    EPOCH_NS,
    NS,
    START_NS,
    Row,
    counters_of,
    make_experiment,
    payload,
    row,
    rows_of,
    shards_of,
)
from tests.support.examples import examples

pytestmark = [pytest.mark.costly, pytest.mark.django_db, pytest.mark.usefixtures("broker")]

Cut = list[tuple[int, bool]]  # batches: how many rows, whether they are traced


def deliver(experiment: Experiment, rows: dict[int, list[Row]], cut: Cut, lost: frozenset[int] = frozenset()) -> None:
    """The rows of each shard in batches that are cut so, again and again; batches of these numbers never come."""
    for shard in shards_of(experiment):
        left, first, number, batches = rows[shard.id], 0, 0, []
        while left or not number:
            size, traced = cut[number % len(cut)]
            part, left = left[:size], left[size:]
            end = "" if left else "finished"
            counters = counters_of(rows[shard.id][: first + len(part)])
            batches.append(
                payload(shard, part, number=number, first_row=first, end=end, counters=counters, traced=traced)
            )
            first, number = first + len(part), number + 1
        for number, batch in enumerate(batches):
            if number not in lost or number == len(batches) - 1:  # without its last one a shard was lost
                ingest(batch)


def run(cut: Cut, schedule: list[list[float]] | None = None, **fields: Any) -> Experiment:
    """An experiment all of whose requests were completed."""
    experiment = make_experiment(schedule or [[1.0, 10.0], [1.0, 10.0]], shards=2, status="FINISHED", **fields)
    deliver(experiment, {shard.id: rows_of(shard) for shard in shards_of(experiment)}, cut)
    return experiment


def of_any_outcome(seed: int, number: int, arrival: Row) -> Row:
    draw = random.Random(f"{seed} {number}")
    outcome = draw.choice(list(Outcome))
    host = NO_HOST if outcome in (Outcome.NO_ROUTE, Outcome.LATE) else draw.randrange(2)
    return row(arrival.client, arrival.sequence, arrival.intended_ns, outcome, host=host, routing_version=1)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8),
    lost=st.frozensets(st.integers(0, 6), max_size=2),
    shards=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_account_is_exact_for_any_mix_of_traced_batches(cut, lost, shards, seed):
    experiment = make_experiment([[1.5, 20.0]], shards=shards, status="FINISHED", interval_s=0.4)
    rows = {
        shard.id: rows_of(shard, lambda number, arrival: of_any_outcome(seed, number, arrival))
        for shard in shards_of(experiment)
    }
    deliver(experiment, rows, cut, lost)
    stored = [(shard_id, each) for shard_id, number, each in _arrived(experiment, rows, cut) if number]
    account = account_of(experiment)
    assert account.contradictions() == []
    assert account.planned == 30 == account.sent + account.not_sent + account.missing
    assert account.rows == Trace.objects.filter(experiment=experiment).count() == len(stored)
    arrived = _arrived(experiment, rows, cut)
    assert account.untraced == len(arrived) - len(stored)
    assert account.missing == 30 - len(arrived)
    lines = [account_line(each.outcome) for _, _, each in arrived]
    assert (account.completed, sum(account.errors.values())) == (lines.count("completed"), lines.count("errors"))
    assert (account.dropped, account.late, account.cut) == tuple(map(lines.count, ("dropped", "late", "cut")))
    assert account.complete is (account.missing == 0)
    (intervals,) = intervals_of(experiment)
    assert sum(each["arrivals"] for each in intervals["intervals"]) == len(arrived)
    assert sum(each["sent"] for each in intervals["intervals"]) + intervals["sent_after"] == account.sent
    routed = [each for _, _, each in arrived if each.host != NO_HOST]
    assert sum(shard["routed"] for part in hosts_of(experiment) for shard in part["shards"]) == len(routed)
    assert sum(host["sent"] for part in hosts_of(experiment) for host in part["hosts"]) == account.sent


def _arrived(experiment: Experiment, rows: dict[int, list[Row]], cut: Cut) -> list[tuple[int, bool, Row]]:
    """(shard, traced, row) of each row whose batch is here, by the batches' own numbers."""
    found = []
    for batch in Batch.objects.filter(experiment=experiment):
        first = sum(cut[number % len(cut)][0] for number in range(batch.number))
        part = rows[batch.shard_id][first : first + cut[batch.number % len(cut)][0]]
        found += [(batch.shard_id, cut[batch.number % len(cut)][1], each) for each in part]
    return found


def test_untraced_run_stores_only_statistics():
    experiment = run([(5, False)])
    account = account_of(experiment)
    assert (account.planned, account.rows, account.untraced, account.completed) == (20, 0, 20, 20)
    assert (account.missing, account.lost, account.not_sent, account.complete) == (0, 0, 0, True)
    assert account.to_dict()["untraced"] == 20


def test_number_of_untraced_arrivals_is_reported():
    experiment = run([(4, True), (3, False)])
    built = report.build(experiment, [])
    assert (built["problems"], built["sound"]) == ([], True)
    untraced = built["summary"]["account"]["untraced"]
    assert untraced == 20 - Trace.objects.count() > 0
    (remark,) = built["summary"]["verdict"]["reasons"]
    assert remark["level"] == built["summary"]["verdict"]["status"] == "VALID"
    assert remark["sentence"].startswith(f"{untraced} of 20 arrivals were not traced")
    assert built["summary"]["total"]["times"]["response_time"]["count"] == 20
    text = report.render(built)
    assert re.search(rf"not traced \(no row is stored\) +{untraced}\n", text)
    assert "no figure is above its limit" in text
    assert "not traced" not in report.render(report.build(run([(4, True)]), []))


def test_remark_does_not_hide_a_reason():
    experiment = run([(4, True), (3, False)])
    Batch.objects.filter(experiment=experiment, traced=False).first().delete()
    result = summary.summarise(experiment)["verdict"]
    assert result["status"] == "INVALID"
    assert [reason["level"] for reason in result["reasons"]][-1] == "VALID"


def test_summary_of_another_format_is_made_again():
    experiment = run([(5, False)])
    experiment.summary = {"format": 1, "account": {"planned": 999}}
    assert report.build(experiment, [])["summary"]["account"]["untraced"] == 20


def test_deleted_row_of_a_traced_batch_is_found():
    experiment = run([(4, True), (3, False)])
    Trace.objects.filter(experiment=experiment).first().delete()
    found = "; ".join(account_of(experiment).contradictions())
    assert "the stored batches held 14 rows, but the database holds 13" in found
    assert "the statistics count 14 arrivals, but the rows 13" in found


def test_deleted_statistics_of_untraced_arrivals_are_found():
    experiment = run([(4, True), (3, False)])
    SecondStats.objects.filter(experiment=experiment, traced=False).first().delete()
    account = account_of(experiment)
    assert not account.complete
    assert "the stored batches held 6 untraced arrivals, but the statistics count" in "; ".join(
        account.contradictions()
    )


def test_outcomes_that_differ_from_the_counters_are_found():
    experiment = run([(5, False)])
    for second in SecondStats.objects.filter(experiment=experiment):
        SecondStats.objects.filter(id=second.id).update(outcomes={"16": second.arrivals}, sent=0, completed=0)
    found = "; ".join(account_of(experiment).contradictions())
    assert "counted 0 as dropped, but 10 of its rows are" in found


def test_hosts_and_shares_equal_those_of_a_traced_run():
    RoutingRevision.objects.create(
        service="service0", version=1, hosts=["10.0.0.1:80", "10.0.0.2:80"], weights=[1.0, 1.0]
    )
    found = []
    for cut in ([(5, True)], [(5, False)], [(2, True), (3, False)]):
        experiment = make_experiment(status="FINISHED")
        (shard,) = shards_of(experiment)
        rows = rows_of(shard, lambda number, arrival: replace(arrival, host=number % 2))
        rows[3] = row(3, 0, rows[3].intended_ns, Outcome.CUT, host=1, routing_version=1)  # routed, and never sent
        deliver(experiment, {shard.id: rows}, cut)
        (part,) = hosts_of(experiment)
        (only,) = part.pop("shards")
        found.append((part, {**only, "shard": ""}))
    assert found[0] == found[1] == found[2]
    assert [host["sent"] for host in found[0][0]["hosts"]] == [10, 9]
    assert (found[0][1]["routed"], found[0][1]["max_deviation"]) == (20, 0.0)


@pytest.mark.parametrize("offset_ns", [0, 300_000_000, 999_999_999])
def test_intervals_equal_those_of_a_traced_run(offset_ns):
    schedule = [[1.0, 10.0], [0.5, 0.0], [1.0, 20.0], [0.25, 8.0]]
    found = []
    for traced in (True, False):
        experiment = make_experiment(schedule, interval_s=[step[0] for step in schedule], status="FINISHED")
        Experiment.objects.filter(id=experiment.id).update(start_broker_ns=START_NS + offset_ns)
        experiment.refresh_from_db()
        (shard,) = shards_of(experiment)
        ingest(payload(shard, rows_of(shard), epoch_broker_ns=EPOCH_NS + offset_ns, traced=traced))
        found.append(intervals_of(experiment))
    assert found[0] == found[1]
    assert [each["sent"] for each in found[1][0]["intervals"]] == [10, 0, 20, 2]


def test_arrivals_outside_the_schedule_are_divided_by_time():
    experiment = make_experiment([[1.0, 4.0], [1.0, 0.0]], interval_s=0.5, status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = [row(0, number, NS + number) for number in range(7)]
    ingest(payload(shard, [*rows, row(0, 8, 5 * NS)], traced=False))
    (intervals,) = intervals_of(experiment)
    assert [each["arrivals"] for each in intervals["intervals"]] == [0, 0, 4, 3]
    assert intervals["sent_after"] == 1


@pytest.fixture
def logged(tmp_path):
    """Writes a target's log of these ids, and compares it."""

    def compared(experiment: Experiment, ids: list[str]) -> dict[str, Any]:
        path: Path = tmp_path / "target.log"
        path.write_text("".join(f"1700000000.5 {each} GET /\n" for each in ids))
        return compare(experiment, [path])

    return compared


def ids_of(experiment: Experiment) -> list[str]:
    return [
        request_id(shard.group_id, each.client, each.sequence)
        for shard in shards_of(experiment)
        for each in rows_of(shard)
    ]


def test_log_has_as_many_other_ids_as_were_sent_untraced(logged):
    experiment = run([(4, True), (3, False)])
    ids = ids_of(experiment)
    found = logged(experiment, ids)
    assert (found["sent"], found["untraced"], found["logged"], found["contradictions"]) == (14, 6, 20, [])
    assert (found["missing"], found["unknown"], found["duplicate"], found["errors_not_logged"]) == (0, 0, 0, 0)
    without_row = set(ids) - {
        request_id(f"{experiment.id}.0", trace.client, trace.sequence)
        for trace in Trace.objects.filter(experiment=experiment)
    }
    rest = sorted(set(ids) - {min(without_row)})
    assert logged(experiment, rest)["contradictions"] == ["completed requests that are in no log: 1"]
    more = [*ids, request_id(f"{experiment.id}.0", 1, 777)]
    assert logged(experiment, more)["contradictions"] == ["logged requests that were not sent according to the rows: 1"]
    twice = [*ids, min(without_row)]
    assert logged(experiment, twice)["contradictions"] == [
        f"requests that were logged more than once: 1, such as {min(without_row)}"
    ]


def test_untraced_request_without_response_may_be_absent(logged):
    experiment = make_experiment(status="FINISHED")
    (shard,) = shards_of(experiment)
    rows = rows_of(
        shard,
        lambda number, each: row(each.client, each.sequence, each.intended_ns, Outcome.TIMEOUT if number < 3 else 0),
    )
    deliver(experiment, {shard.id: rows}, [(20, False)])
    ids = ids_of(experiment)
    for kept, unanswered in ((20, 0), (18, 2), (17, 3)):
        found = logged(experiment, ids[:kept])
        assert (found["contradictions"], found["errors_not_logged"]) == ([], unanswered)
    assert logged(experiment, ids[:16])["missing"] == 1
