"""The deviation that a random process explains is finite for every process that may pace a schedule."""

from __future__ import annotations

import math

import pytest

from loadgen.arrivals.count_spread import explained_deviation
from loadgen.arrivals.distributions import CONSTANT, EXPOVARIATE


def test_constant_and_poisson_counts_have_a_closed_form() -> None:
    assert explained_deviation(CONSTANT, [1], 10_000, 5) == 1
    assert explained_deviation(EXPOVARIATE, [1], 10_000, 5) == 301


@pytest.mark.costly
@pytest.mark.parametrize("alpha", [1.002, 1.005, 1.01, 1.5])
def test_deviation_of_heavy_pareto_gaps_is_finite(alpha: float) -> None:
    for planned, clients in ((10.0, 1), (1_000.0, 20), (1e6, 10)):
        deviation = explained_deviation("paretovariate", [alpha], planned, clients)
        assert 1 < deviation < math.inf
