"""Histograms add up, stay within their error, and survive storage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis.histogram import (
    BUCKETS,
    MAX_RELATIVE_ERROR,
    MAX_VALUE_NS,
    Histogram,
    HistogramError,
    bucket_of,
    counts,
    middle_of,
)
from tests.support.examples import examples

HOUR_NS = 3600 * 10**9
durations = st.integers(min_value=0, max_value=100 * HOUR_NS)
lists = st.lists(durations, max_size=200)


def array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def same(one: Histogram, other: Histogram) -> bool:
    return one.to_bytes() == other.to_bytes()


@given(lists, lists)
def test_merged_histograms_equal_one_of_all_values(first, second):
    merged = Histogram.merged([Histogram.of(array(first)), Histogram.of(array(second)).to_bytes()])
    assert same(merged, Histogram.of(array(first + second)))


@given(lists)
def test_stored_bytes_restore_the_histogram(values):
    histogram = Histogram.of(array(values))
    assert same(Histogram.from_bytes(memoryview(histogram.to_bytes())), histogram)


@given(st.integers(min_value=0, max_value=MAX_VALUE_NS))
def test_bucket_middle_is_within_the_stated_error(value):
    middle = middle_of(int(bucket_of(array([value]))[0]))
    assert abs(middle - value) <= MAX_RELATIVE_ERROR * value


@given(st.integers(min_value=1, max_value=MAX_VALUE_NS))
def test_bucket_index_grows_with_the_value(value):
    lower, upper = bucket_of(array([value - 1, value])).tolist()
    assert lower <= upper <= lower + 1


@settings(max_examples=examples(50))
@given(st.lists(durations, min_size=1, max_size=300), st.floats(min_value=0, max_value=1))
def test_quantile_is_within_one_per_cent_of_the_exact_one(values, q):
    exact = sorted(values)[max(1, -int(-q * len(values) // 1)) - 1]
    estimate = Histogram.of(array(values)).quantile(q)
    assert abs(estimate - exact) <= 0.01 * exact


def test_every_bucket_is_used():
    edges = array([0, 1, 127, 128, 129, 130, 255, 256, MAX_VALUE_NS])
    assert bucket_of(edges).tolist() == [0, 1, 127, 128, 128, 129, 191, 192, BUCKETS - 1]


def test_count_sum_mean_and_maximum_are_exact():
    histogram = Histogram.of(array([1_234_567, 7_654_321, 999]))
    assert (histogram.count, histogram.sum_ns, histogram.max_ns) == (3, 8_889_887, 7_654_321)
    assert histogram.mean_ns == pytest.approx(8_889_887 / 3)
    assert histogram.quantile(1) == 7_654_321


def test_empty_histogram_has_no_quantile_and_no_mean():
    histogram = Histogram()
    assert (histogram.count, histogram.mean_ns, histogram.quantile(0.5), histogram.max_ns) == (0, None, None, 0)


def test_values_outside_the_range_count_at_its_ends():
    histogram = Histogram.of(array([-5, 2**62]))
    assert (histogram.quantile(0), histogram.max_ns, histogram.sum_ns) == (0.0, MAX_VALUE_NS, MAX_VALUE_NS)


def test_sum_does_not_overflow():
    histogram = Histogram.of(np.full(5000, MAX_VALUE_NS, dtype=np.int64))
    assert histogram.sum_ns == 5000 * MAX_VALUE_NS


def test_counts_hold_every_value():
    assert counts(array([5, 5, 10**9])).sum() == 3


def test_second_of_a_fast_load_takes_less_than_2_kb():
    values = np.random.default_rng(1).lognormal(16, 0.5, 10_000).astype(np.int64)
    assert len(Histogram.of(values).to_bytes()) < 2048


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_quantile_outside_0_and_1_is_refused(q):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Histogram().quantile(q)


@pytest.mark.parametrize("stored", [b"", b"\x09abc", b"\x01abc", Histogram.of(array([5, 7])).to_bytes()[:-3]])
def test_bytes_of_another_format_are_refused(stored):
    with pytest.raises(HistogramError):
        Histogram.from_bytes(stored)
