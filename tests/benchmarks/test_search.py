"""The search for the highest rate."""

import pytest

from benchmarks.lines.open_model import highest


class Generator:
    """Keeps every rate up to `limit`, but not at the calls whose numbers are in `disturbed`."""

    def __init__(self, limit, disturbed=()):
        self.limit = limit
        self.disturbed = disturbed
        self.tried = []

    def keeps(self, rate):
        self.tried.append(rate)
        return rate <= self.limit and len(self.tried) - 1 not in self.disturbed


@pytest.mark.parametrize("limit", [700, 19_999, 20_000, 61_234, 300_000])
@pytest.mark.parametrize("first", [5_000, 20_000])
def test_it_finds_the_limit_to_within_four_percent(limit, first):
    rate = highest(Generator(limit).keeps, first, tries=40)
    assert limit / 1.04 <= rate <= limit


def test_the_search_stops_after_its_number_of_tries():
    generator = Generator(50_000)
    assert highest(generator.keeps, 20_000, tries=4) == 45_000
    assert generator.tried == [20_000, 30_000, 45_000, 67_500]


def test_a_moment_of_disturbance_changes_nothing():
    undisturbed = highest(Generator(50_000).keeps, 20_000, 40)
    assert highest(Generator(50_000, disturbed={1, 2}).keeps, 20_000, 40) == undisturbed


def test_where_nothing_is_kept_the_answer_is_nothing():
    assert highest(Generator(0).keeps, 20_000, tries=12) == 0
