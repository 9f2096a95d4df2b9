"""The series that charts read comes from the per-second statistics alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from experiments.analysis import series
from experiments.analysis.series import COLUMNS, Part, series_of
from experiments.ingest.ingest import ingest
from experiments.models import Experiment
from loadgen.protocol.outcomes import Outcome
from routing.errors import Code, InvalidInput
from tests.support.batches import (
    NS,
    START,
    START_NS,
    START_S,
    make_experiment,
    payload,
    row,
    rows_of,
    run_payloads,
    shards_of,
)

pytestmark = [pytest.mark.costly, pytest.mark.django_db, pytest.mark.usefixtures("broker")]

RAMP = [[2.0, 10.0], [2.0, 20.0], [2.0, 5.0]]
STEADY = [[6.0, 4.0]]


@pytest.fixture
def experiment() -> Experiment:
    """Two services of which everything is done: a ramp on two shards, and a steady one."""
    experiment = make_experiment(RAMP, STEADY, shards=2)
    deliver(experiment)
    return experiment


def deliver(experiment: Experiment) -> None:
    for shard in shards_of(experiment):
        for batch in run_payloads(shard, batches=5):
            ingest(batch)


def points(experiment: Experiment, **part: Any) -> list[dict[str, Any]]:
    return list(series_of(experiment, Part(**part)).points())


def column(experiment: Experiment, name: str, **part: Any) -> list[Any]:
    return [point[name] for point in points(experiment, **part)]


def test_series_has_a_point_per_second_over_all_shards(experiment):
    found = points(experiment)
    assert [point["offset_s"] for point in found] == [0, 1, 2, 3, 4, 5]
    assert [point["second"] for point in found] == list(range(START_S, START_S + 6))
    for name in ("arrivals", "sent", "completed"):
        assert [point[name] for point in found] == [14, 14, 24, 24, 9, 9]
    assert [point["planned"] for point in found] == pytest.approx([14, 14, 24, 24, 9, 9])
    assert {tuple(point) for point in found} == {COLUMNS}
    first = found[0]
    assert first["response_p99_s"] == pytest.approx(0.00515, rel=0.01)
    assert first["service_p50_s"] == pytest.approx(0.005, rel=0.01)
    assert first["lateness_p50_s"] == pytest.approx(50e-6, rel=0.01)
    assert first["connection_wait_max_s"] == pytest.approx(100e-6)
    assert (first["size"], first["errors"], first["clients"]) == (1400, 0, None)


def test_series_reads_no_traces(experiment):
    with CaptureQueriesContext(connection) as queries:
        points(experiment)
    assert not [query for query in queries if "experiments_trace" in query["sql"]]


@pytest.mark.parametrize(
    ("part", "arrivals"),
    [
        ({"service": "service0"}, [10, 10, 20, 20, 5, 5]),
        ({"workload": 1}, [4] * 6),
        ({"workload": 1, "service": "service1"}, [4] * 6),
        ({"workload": 1, "service": "service0"}, [0] * 6),
        ({"from_s": 2}, [24, 24, 9, 9]),
        ({"to_s": 2}, [14, 14]),
        ({"from_s": 1.5, "to_s": 3.5}, [14, 24, 24]),
        ({"from_s": -100, "to_s": 100}, [14, 14, 24, 24, 9, 9]),
        ({"from_s": 100}, []),
        ({"to_s": -1}, []),
        ({"step_s": 2}, [28, 48, 18]),
        ({"step_s": 4}, [76, 18]),
        ({"step_s": 3600}, [94]),
        ({"from_s": 3, "step_s": 2}, [48, 18]),
        ({"from_s": 2, "to_s": 5, "step_s": 2}, [48, 9]),
    ],
)
def test_part_of_a_series(experiment, part, arrivals):
    found = points(experiment, **part)
    assert [point["arrivals"] for point in found] == arrivals
    if "service" not in part or "workload" not in part:
        assert [point["planned"] for point in found] == pytest.approx(arrivals)


def test_step_is_the_sum_of_its_seconds():
    experiment = make_experiment([[4.0, 1.0]])
    (shard,) = shards_of(experiment)
    kinds = [Outcome.COMPLETED, Outcome.DROPPED, Outcome.TIMEOUT, Outcome.LATE]
    rows = [row(0, second, second * NS, kind) for second, kind in enumerate(kinds)]
    rows[0] = row(0, 0, 0, done_ns=3 * NS)
    for batch in run_payloads(shard, rows):
        ingest(batch)
    (point,) = points(experiment, step_s=4)
    counted = [point[name] for name in ("arrivals", "sent", "completed", "errors", "dropped", "late", "cut")]
    assert counted == [4, 2, 1, 1, 1, 1, 0]
    assert point["response_max_s"] == pytest.approx(3)


def test_series_of_a_host_has_sent_and_completed():
    experiment = make_experiment([[2.0, 4.0]])
    (shard,) = shards_of(experiment)
    rows = rows_of(
        shard, lambda number, r: row(r.client, r.sequence, r.intended_ns, Outcome.RESET, host=1) if number % 2 else r
    )
    for batch in run_payloads(shard, rows):
        ingest(batch)
    both = series_of(experiment, Part())
    list(both.points())
    assert both.hosts == {"10.0.0.1:80", "10.0.0.2:80"}
    second = points(experiment, host="10.0.0.2:80")
    assert [(point["sent"], point["completed"], point["errors"]) for point in second] == [(2, 0, 2), (2, 0, 2)]
    unknown = set(COLUMNS) - {"second", "offset_s", "sent", "completed", "errors"}
    assert {point[name] for point in second for name in unknown} == {None}
    assert column(experiment, "sent", host="nobody:80") == [0, 0]


def test_seconds_without_arrivals_have_points():
    experiment = make_experiment([[1.0, 2.0], [2.0, 0.0], [1.0, 2.0]])
    deliver(experiment)
    assert column(experiment, "arrivals") == [2, 0, 0, 2]
    assert points(experiment)[1]["response_p50_s"] is None


def test_range_read_in_spans_has_the_same_points(experiment, monkeypatch):
    whole = points(experiment, step_s=2)
    monkeypatch.setattr(series, "_ROWS_PER_QUERY", 1)
    assert points(experiment, step_s=2) == whole


def test_arrivals_cut_before_the_start_was_known_have_no_point():
    experiment = make_experiment([[1.0, 2.0]])
    (shard,) = shards_of(experiment)
    ingest(payload(shard, [row(0, 0, 0, Outcome.CUT)], epoch_broker_ns=0))
    assert points(experiment) == []
    ingest(payload(shard, [row(0, 1, 0)], number=1, first_row=1))
    assert column(experiment, "arrivals") == [1]


def test_cut_rest_of_a_plan_is_shown_if_requested():
    experiment = make_experiment([[6.0, 1.0]], status="CANCELLED")
    (shard,) = shards_of(experiment)
    rows = [row(0, at, at * NS, Outcome.CUT if at > 1 else Outcome.COMPLETED) for at in range(6)]
    for batch in run_payloads(shard, rows):
        ingest(batch)
    Experiment.objects.update(ended_at=START + timedelta(seconds=1.4))
    experiment.refresh_from_db()
    assert column(experiment, "completed") == [1, 1]
    assert column(experiment, "cut", to_s=10) == [0, 0, 1, 1, 1, 1]


def test_first_second_is_partial_if_the_start_lies_within_it():
    experiment = make_experiment([[2.0, 10.0]])
    Experiment.objects.update(start_broker_ns=START_NS + NS // 2)
    experiment.refresh_from_db()
    deliver(experiment)
    assert column(experiment, "offset_s") == [-0.5, 0.5]
    assert column(experiment, "planned") == pytest.approx([5, 10])
    assert column(experiment, "offset_s", from_s=0.6) == [0.5]


def test_no_statistics_or_start_gives_no_points():
    experiment = make_experiment()
    assert points(experiment) == []
    experiment.start_broker_ns = None
    assert points(experiment, from_s=1, step_s=3) == []


@pytest.mark.parametrize(
    ("part", "field", "code"),
    [
        ({"service": "other"}, "service", Code.MISSING),
        ({"workload": 2}, "workload", Code.MISSING),
        ({"from_s": 2, "to_s": 2}, "to", Code.CONFLICT),
    ],
)
def test_part_that_does_not_exist_is_refused(experiment, part, field, code):
    with pytest.raises(InvalidInput) as refused:
        series_of(experiment, Part(**part))
    assert [(error.path, error.code) for error in refused.value.errors] == [(field, code)]


def test_too_many_points_or_rows_are_refused(experiment, monkeypatch):
    monkeypatch.setattr(series, "MAX_POINTS", 4)
    with pytest.raises(InvalidInput, match="exceed 4 points") as refused:
        series_of(experiment, Part(step_s=1))
    assert refused.value.errors[0].path == "step"
    assert series_of(experiment, Part()).step_s == 2
    assert series_of(experiment, Part(from_s=2)).step_s == 1
    monkeypatch.setattr(series, "MAX_ROWS", 23)
    with pytest.raises(InvalidInput, match="24 rows of statistics") as refused:
        series_of(experiment, Part())
    assert refused.value.errors[0].path == "from"
    assert len(points(experiment, service="service0")) == 3
