"""Live numbers come from the per-second statistics alone."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from experiments.analysis import live
from experiments.analysis.histogram import Histogram
from experiments.ingest.ingest import ingest
from experiments.models import Experiment, SecondStats
from loadgen.protocol.outcomes import Outcome
from tests.support.batches import NS, START_NS, START_S, make_experiment, payload, row, rows_of, run_payloads, shards_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("broker")]

RAMP = [[2.0, 10.0], [2.0, 20.0], [2.0, 5.0]]


def at(seconds: float) -> int:
    return START_NS + round(seconds * NS)


@pytest.fixture
def experiment() -> Experiment:
    """A ramp of which everything is done."""
    experiment = make_experiment(RAMP, shards=2)
    for shard in shards_of(experiment):
        for batch in run_payloads(shard, batches=5):
            ingest(batch)
    return experiment


def test_arrivals_count_for_their_intended_second():
    (shard,) = shards_of(make_experiment())
    rows = [
        row(0, 0, 999_999_999, size=5),
        row(1, 0, 1_000_000_000, status=503, host=1),
        row(2, 0, 1_500_000_000, Outcome.RESET),
        row(3, 0, 1_600_000_000, Outcome.DROPPED, host=1),
        row(4, 0, 1_700_000_000, Outcome.LATE, dispatched_ns=4_700_000_000),
        row(5, 0, 1_800_000_000, Outcome.CUT),
    ]
    ingest(payload(shard, rows))
    first, second = SecondStats.objects.order_by("second")
    assert (first.second, first.arrivals, first.sent, first.completed, first.size) == (START_S, 1, 1, 1, 5)
    assert (second.second, second.arrivals, second.sent, second.completed) == (START_S + 1, 5, 2, 1)
    assert second.outcomes == {"0": 1, "2": 1, "16": 1, "17": 1, "25": 1}
    assert second.statuses == {"503": 1}
    assert second.hosts == {"10.0.0.1:80": {"sent": 1, "completed": 0}, "10.0.0.2:80": {"sent": 1, "completed": 1}}
    response, service, lateness, wait = (
        Histogram.from_bytes(getattr(second, name))
        for name in ("response_time", "service_time", "lateness", "connection_wait")
    )
    assert (response.count, response.max_ns) == (1, 5_150_000)
    assert (service.count, service.max_ns) == (1, 5_000_000)
    assert (lateness.count, lateness.max_ns) == (4, 3_000_000_000)
    assert (wait.count, wait.max_ns, wait.sum_ns) == (2, 100_000, 200_000)


def test_seconds_are_kept_per_shard(experiment):
    assert SecondStats.objects.count() == 12
    assert sum(SecondStats.objects.values_list("arrivals", flat=True)) == 70


def test_progress_of_a_running_experiment(experiment):
    progress = live.progress(experiment, at(5.5))
    assert (progress.elapsed_s, progress.duration_s) == (5.5, 6.0)
    assert progress.planned == 68
    # Seconds 0 to 2 have settled: 10, 10 and 20 requests.
    assert (progress.planned_rps, progress.achieved_rps) == (pytest.approx(40 / 3), pytest.approx(40 / 3))
    assert progress.response_p50_s == pytest.approx(0.00515, rel=0.01)
    assert (progress.rows, progress.sent, progress.completed) == (70, 70, 70)
    assert (progress.errors, progress.dropped, progress.late) == (0, 0, 0)


@pytest.mark.parametrize(("now_s", "rps"), [(0.5, 10), (2.5, 20), (4, 10), (7.2, 15), (100, 10)])
def test_planned_and_achieved_rates_are_of_the_same_seconds(experiment, now_s, rps):
    progress = live.progress(experiment, at(now_s))
    assert progress.planned_rps == pytest.approx(rps)
    assert progress.achieved_rps in (None, pytest.approx(rps))


def test_clients_are_those_of_the_settled_seconds():
    experiment = make_experiment([[2.0, 3.0], [4.0, 9.0]], model="closed")
    assert [live.progress(experiment, at(now_s)).clients for now_s in (0.5, 2.5, 4, 5, 7)] == [3, 9, 3, 5, 9]


def test_progress_ignores_the_part_of_a_second_before_the_start():
    experiment = make_experiment([[6.0, 10.0]])
    Experiment.objects.update(start_broker_ns=START_NS + NS // 2)
    experiment.refresh_from_db()
    (shard,) = shards_of(experiment)
    for batch in run_payloads(shard):
        ingest(batch)
    # The batches are relative to START_NS; second 0 counts half, so 10 requests in 0.5 s, then 10 in 1 s.
    assert live.progress(experiment, at(4.0)).achieved_rps == pytest.approx(20 / 1.5)


def test_progress_counts_errors_and_unsent_arrivals():
    experiment = make_experiment([[1.0, 20.0]])
    (shard,) = shards_of(experiment)
    kinds = [Outcome.DROPPED] * 3 + [Outcome.LATE] * 2 + [Outcome.TIMEOUT] * 4 + [Outcome.COMPLETED] * 11
    rows = [row(r.client, r.sequence, r.intended_ns, kinds[number]) for number, r in enumerate(rows_of(shard))]
    for batch in run_payloads(shard, rows):
        ingest(batch)
    progress = live.progress(experiment, at(0.9))
    assert (progress.rows, progress.sent, progress.completed) == (20, 15, 11)
    assert (progress.errors, progress.dropped, progress.late) == (4, 3, 2)


def test_progress_before_the_start_and_after_the_end(experiment):
    before = live.progress(experiment, at(-1))
    assert (before.elapsed_s, before.planned, before.planned_rps, before.achieved_rps) == (0, 0, 0, None)
    after = live.progress(experiment, at(100))
    assert (after.elapsed_s, after.planned, after.planned_rps) == (6, 70, pytest.approx(10))
    assert after.achieved_rps == pytest.approx(30 / 3)
    Experiment.objects.update(start_broker_ns=None)
    experiment.refresh_from_db()
    unknown = live.progress(experiment)
    assert (unknown.elapsed_s, unknown.planned, unknown.response_p50_s) == (0, 0, None)


def test_progress_reads_no_traces(experiment):
    with CaptureQueriesContext(connection) as queries:
        live.progress(experiment, at(3))
    assert not [query for query in queries if "experiments_trace" in query["sql"]]
