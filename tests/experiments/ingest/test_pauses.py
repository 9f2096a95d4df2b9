"""Ingest leaves others a turn to write where the database takes one writer at a time."""

import pytest
from django.db import connection

from experiments.ingest.ingest import pause_for_other_writers


@pytest.fixture(autouse=True)
def longest_pause(monkeypatch):
    monkeypatch.setattr("experiments.ingest.ingest.MAX_PAUSE_S", 0.1)


@pytest.mark.parametrize(("took_s", "pause_s"), [(0.0, 0.0), (0.004, 0.001), (0.2, 0.05), (0.4, 0.1), (30.0, 0.1)])
def test_pause_is_a_quarter_of_the_time_up_to_a_bound(took_s, pause_s):
    expected = [pytest.approx(pause_s)] if connection.vendor == "sqlite" else []
    assert pauses_after(took_s) == expected


def test_each_batch_is_followed_by_its_own_pause():
    now_s, pauses = [100.0], []

    @pause_for_other_writers(lambda: now_s[0], pauses.append)
    def ingest(took_s):
        now_s[0] += took_s
        return len(pauses)

    assert [ingest(0.04), ingest(0.08)] == ([0, 1] if connection.vendor == "sqlite" else [0, 0])
    assert pauses == ([pytest.approx(0.01), pytest.approx(0.02)] if connection.vendor == "sqlite" else [])


def test_error_propagates_without_a_pause():
    pauses = []
    with pytest.raises(ZeroDivisionError), pause_for_other_writers(sleep=pauses.append):
        raise ZeroDivisionError
    assert pauses == []


def pauses_after(took_s):
    times, pauses = iter([100.0, 100.0 + took_s]), []
    with pause_for_other_writers(lambda: next(times), pauses.append):
        assert pauses == []
    return pauses
