"""The fault rig's comparison finds what it is there for (tests/faults/check.py)."""

from dataclasses import replace

import pytest

from tests.faults.check import (
    ABORTED,
    COMPLETED,
    CUT,
    IF_SENT,
    MAY,
    NEVER,
    Arrival,
    Logged,
    Row,
    Span,
    arrivals,
    compare,
    gapped,
    phase_of,
)

PLAN = arrivals([(2.0, 10.0), (2.0, 20.0)], 3)
CLIENT_0 = frozenset([0])


def rows_of(plan):
    return [Row(each.client, each.sequence, each.at_ns, True, COMPLETED) for each in plan]


def log_of(plan, delay_s=0.002):
    return [Logged(each.client, each.sequence, each.at_ns / 1e9 + delay_s) for each in plan]


def found(rows, logged, *spans):
    return " ".join(compare(PLAN, rows, logged, spans).findings)


def test_arrivals_are_half_a_gap_in_across_rate_changes():
    assert [arrival.at_ns for arrival in arrivals([(1.0, 2.0), (1.0, 4.0)], 2)] == [
        250_000_000, 750_000_000, 1_125_000_000, 1_375_000_000, 1_625_000_000, 1_875_000_000,
    ]  # fmt: skip
    # 1.5 arrivals in the first second: the half of the second one is worked off at the next rate.
    assert arrivals([(1.0, 1.5), (1.0, 4.0)], 2)[:3] == [
        Arrival(0, 0, 333_333_333), Arrival(1, 0, 1_000_000_000), Arrival(0, 1, 1_250_000_000),
    ]  # fmt: skip
    assert arrivals([(5.0, 0.0)], 1) == []


def test_workloads_and_clients_start_at_different_offsets():
    assert [arrival.at_ns for arrival in arrivals([(1.0, 2.0)], 2, phase_of(1))] == [59_016_994, 559_016_994]
    assert gapped(2.0, 2, 2) == [
        Arrival(0, 0, 1_000_000_000), Arrival(0, 1, 3_000_000_000),
        Arrival(1, 0, 236_067_977), Arrival(1, 1, 2_236_067_977),
    ]  # fmt: skip


def test_intended_times_may_be_off_by_what_is_said_and_no_more():
    rows = [replace(row, intended_ns=row.intended_ns + 4_000) for row in rows_of(PLAN)]
    assert compare(PLAN, rows, log_of(PLAN), [], 5_000).findings == []
    assert "intended times" in " ".join(compare(PLAN, rows, log_of(PLAN), [], 3_000).findings)


def test_a_run_as_planned_is_green():
    result = compare(PLAN, rows_of(PLAN), log_of(PLAN), [])
    assert result.findings == []
    figures = result.figures
    assert (figures.planned, figures.rows, figures.sent, figures.logged) == (60, 60, 60, 60)
    assert (figures.lost, figures.unknown, figures.deviation) == (0, 0, 0)


@pytest.mark.parametrize(
    ("finding", "rows", "logged"),
    [
        ("1 arrivals without a row", rows_of(PLAN[1:]), log_of(PLAN)),
        ("1 rows of one arrival, twice", rows_of([*PLAN, PLAN[7]]), log_of(PLAN)),
        ("1 rows that nobody planned", rows_of([*PLAN, Arrival(0, 99, 0)]), log_of(PLAN)),
        ("1 requests logged more than once", rows_of(PLAN), log_of([*PLAN, PLAN[7]])),
        ("1 requests logged that nobody planned", rows_of(PLAN), log_of([*PLAN, Arrival(0, 99, 0)])),
        ("1 rows sent, but not logged", rows_of(PLAN), log_of(PLAN[1:])),
        ("1 arrivals that were not sent", rows_of(PLAN), log_of(PLAN[1:])),
    ],
)
def test_what_is_not_as_planned_is_found(finding, rows, logged):
    assert finding in found(rows, logged)


def test_a_moved_intended_time_is_found():
    first, *rest = rows_of(PLAN)
    assert "1 intended times" in found([replace(first, intended_ns=first.intended_ns + 5_000), *rest], log_of(PLAN))


def test_an_outcome_without_a_cause_is_found():
    first, *rest = rows_of(PLAN)
    for code in (CUT, ABORTED, 17):
        assert "1 outcomes that have no cause" in found([replace(first, outcome=code), *rest], log_of(PLAN))


def test_burst_is_found_in_its_second_without_missing_requests():
    late = [replace(line, at_s=2.5) if 1 <= line.at_s < 1.3 else line for line in log_of(PLAN)]
    assert "off by 3" in found(rows_of(PLAN), late)


def test_only_losses_of_surviving_clients_are_findings():
    spans = [Span(CLIENT_0, 2.6, row=MAY), Span(CLIENT_0, 3.0, sent=NEVER, row=IF_SENT)]
    stored = [each for each in PLAN if each.client != 0 or each.at_ns < 2_600_000_000]
    sent = [each for each in PLAN if each.client != 0 or each.at_ns < 3_000_000_000]
    assert found(rows_of(stored), log_of(sent), *spans) == ""
    assert "arrivals that should not be sent" in found(rows_of(PLAN), log_of(PLAN), *spans)
    assert "arrivals without a row" in found(rows_of(stored[:-2]), log_of(sent), *spans)


def test_logged_request_without_its_due_row_is_found():
    span = Span(CLIENT_0, 2.0, 3.0, sent=MAY, row=IF_SENT)
    stored = [each for each in PLAN if each.client != 0 or not 2 <= each.at_ns / 1e9 < 3]
    assert found(rows_of(stored), log_of(stored), span) == ""
    assert "arrivals without a row" in found(rows_of(stored), log_of(PLAN), span)


def test_what_a_stop_has_cut_is_stored_and_not_sent():
    span = Span(None, 3.0, sent=NEVER)
    sent = [each for each in PLAN if each.at_ns < 3_000_000_000]
    cut = [Row(each.client, each.sequence, each.at_ns, False, CUT) for each in PLAN[len(sent) :]]
    assert found([*rows_of(sent), *cut], log_of(sent), span) == ""
    assert "arrivals that were not sent" in found([*rows_of(sent), *cut], log_of(sent))
    assert "without a row" in found(rows_of(sent), log_of(sent), span)
