"""What samples amount to."""

import pytest

from benchmarks.figures import Figure, Sample, Spread, Verdict, at_least, below, held_in, judge

FASTER = Figure("throughput", "×", at_least(0.35), at_least(0.6))
SHORTER = Figure("lateness", "µs", below(1000), below(200))


@pytest.mark.parametrize(
    ("figure", "median", "verdict"),
    [
        (FASTER, 0.34, Verdict.MISSED),
        (FASTER, 0.35, Verdict.HOLDS),
        (FASTER, 0.6, Verdict.AIM),
        (SHORTER, 1000, Verdict.MISSED),
        (SHORTER, 999, Verdict.HOLDS),
        (SHORTER, 200, Verdict.HOLDS),
        (SHORTER, 199, Verdict.AIM),
        (Figure("without an aim", "µs", below(100)), 1, Verdict.HOLDS),
        (Figure("in the table", "×", None, at_least(0.3)), 0.1, Verdict.NONE),
        (Figure("in the table", "×", None, at_least(0.3)), 0.3, Verdict.AIM),
    ],
)
def test_a_median_is_judged_by_the_limit_and_then_the_aim(figure, median, verdict):
    assert judge(figure, median) is verdict


def test_only_a_miss_and_a_missing_measurement_fail():
    assert {verdict for verdict in Verdict if verdict.fails} == {Verdict.MISSED, Verdict.NOT_MEASURED}


def test_a_spread_is_the_median_with_the_least_and_the_greatest():
    assert Spread.of([3, 1, 10]) == Spread(3, 1, 10)
    assert Spread.of([1, 2]).median == 1.5


def test_rounds_that_hold_are_counted_where_something_is_asked():
    assert held_in(FASTER, [0.3, 0.4, 0.5]) == 2
    assert held_in(Figure("in the table", "×"), [0.3]) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_sample(value):
    with pytest.raises(ValueError, match="finite"):
        Sample([1.0, value])
