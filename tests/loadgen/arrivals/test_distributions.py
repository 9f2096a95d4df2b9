"""Samples are those of Python's `random` with the parameters given; means are of gaps that cannot be negative."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from loadgen.arrivals.distributions import (
    CONSTANT,
    DISTRIBUTIONS,
    EXPOVARIATE,
    HIGHEST,
    DistributionError,
    complete,
    described,
    mean_gap,
    parameter_names,
    residual_sampler,
    sampler,
)
from tests.support.examples import examples

SEED = 20261122
TURN = 2 * math.pi
Cdf = Callable[[Any], Any]


def wrapped_von_mises(mu: float, kappa: float) -> Cdf:
    """Of the angle from 0 to 2π: scipy's counts the turns."""
    turns = stats.vonmises(kappa, loc=mu).cdf
    return lambda angle: turns(np.minimum(angle, TURN)) - turns(0)


# (name, parameters, the distribution function that the samples must have)
CASES: list[tuple[str, tuple[float, ...], Cdf]] = [
    ("uniform", (2, 5), stats.uniform(2, 3).cdf),
    ("uniform", (-1, 3), stats.uniform(-1, 4).cdf),
    ("triangular", (1, 5, 2), stats.triang(1 / 4, 1, 4).cdf),
    ("triangular", (-2, 4, -1), stats.triang(1 / 6, -2, 6).cdf),
    ("triangular", (-2, 4, 1), stats.triang(1 / 2, -2, 6).cdf),
    ("normalvariate", (3, 0.5), stats.norm(3, 0.5).cdf),
    ("normalvariate", (1, 2), stats.norm(1, 2).cdf),
    ("gauss", (0.2, 1), stats.norm(0.2, 1).cdf),
    ("lognormvariate", (0, 1), stats.lognorm(1).cdf),
    ("lognormvariate", (-3, 0.4), stats.lognorm(0.4, scale=math.exp(-3)).cdf),
    (EXPOVARIATE, (1,), stats.expon().cdf),
    (EXPOVARIATE, (20,), stats.expon(scale=1 / 20).cdf),
    ("vonmisesvariate", (0, 4), wrapped_von_mises(0, 4)),
    ("vonmisesvariate", (1, 2), wrapped_von_mises(1, 2)),
    ("vonmisesvariate", (5.5, 0.7), wrapped_von_mises(5.5, 0.7)),
    ("vonmisesvariate", (3, 500), wrapped_von_mises(3, 500)),
    ("vonmisesvariate", (1, 0), stats.uniform(0, TURN).cdf),
    ("gammavariate", (0.4, 2), stats.gamma(0.4, scale=2).cdf),
    ("gammavariate", (1, 3), stats.expon(scale=3).cdf),
    ("gammavariate", (9, 0.5), stats.gamma(9, scale=0.5).cdf),
    ("betavariate", (2, 5), stats.beta(2, 5).cdf),
    ("paretovariate", (2.5,), stats.pareto(2.5).cdf),
    ("weibullvariate", (2, 1.5), stats.weibull_min(1.5, scale=2).cdf),
    ("weibullvariate", (1, 0.7), stats.weibull_min(0.7).cdf),
]
RANDOM = tuple(name for name in DISTRIBUTIONS if name != CONSTANT)


def test_every_distribution_of_the_original_is_there() -> None:
    assert {name for name, _, _ in CASES} == set(RANDOM) == {
        "uniform", "triangular", "normalvariate", "lognormvariate", "expovariate", "vonmisesvariate", "gammavariate",
        "gauss", "betavariate", "paretovariate", "weibullvariate",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "parameters", "cdf"), CASES)
def test_samples_have_the_distribution_of_their_parameters(name: str, parameters: tuple[float, ...], cdf: Cdf) -> None:
    """Kolmogorov-Smirnov at 1 %, Bonferroni-corrected over the cases, with a fixed seed."""
    draw = sampler(name, parameters, random.Random(SEED))
    assert stats.kstest([draw() for _ in range(5000)], cdf).pvalue > 0.01 / len(CASES)


@pytest.mark.costly
@pytest.mark.parametrize(("name", "parameters", "cdf"), CASES)
def test_the_mean_gap_counts_negative_samples_as_zero(name: str, parameters: tuple[float, ...], cdf: Cdf) -> None:
    """The integral of 1 - F over x > 0, up to where next to nothing is left."""
    expected = (1 - cdf(np.arange(0.0005, 200, 0.001))).sum() / 1000
    assert mean_gap(name, parameters) == pytest.approx(expected, rel=1e-3)


@pytest.mark.costly
@pytest.mark.parametrize(("name", "parameters", "cdf"), CASES)
def test_a_residual_gap_has_the_equilibrium_distribution(name: str, parameters: tuple[float, ...], cdf: Cdf) -> None:
    """Its density is (1 - F) / mean (Cox, Renewal Theory, 5.2). Kolmogorov-Smirnov at 1 %, as above."""
    grid = np.arange(0, 400, 0.001)
    beyond = 1 - cdf(grid)
    below = np.concatenate([[0.0], np.cumsum((beyond[1:] + beyond[:-1]) / 2 * 0.001)])
    draw, source = residual_sampler(name, parameters), random.Random(SEED)
    mean = mean_gap(name, parameters)
    found = [draw(source) for _ in range(5000)]
    assert stats.kstest(found, lambda time: np.interp(time, grid, below / mean)).pvalue > 0.01 / len(CASES)


@pytest.mark.costly
@pytest.mark.parametrize("alpha", [1.002, 1.005, 1.01, 1.1])
def test_residual_pareto_gaps_near_alpha_1_are_right(alpha: float) -> None:
    """P(gap > t) = t^(1 - alpha) / alpha for t ≥ 1. Kolmogorov-Smirnov below e^500, and 4 sigma for the share above."""
    assert mean_gap("paretovariate", [alpha]) == pytest.approx(alpha / (alpha - 1))
    draw = residual_sampler("paretovariate", [alpha])
    found = np.array([draw(random.Random(seed)) for seed in range(2000)])
    assert np.isfinite(found * 1e9).all()

    def below(time: Any) -> Any:
        return np.where(time < 1, time * (alpha - 1), alpha - np.maximum(time, 1) ** (1 - alpha)) / alpha

    furthest = math.exp(500)
    common, share = found[found < furthest], below(furthest)
    assert stats.kstest(common, lambda time: below(time) / share).pvalue > 0.01 / 4
    assert abs(len(common) / len(found) - share) <= 4 * math.sqrt(share * (1 - share) / len(found))


class Extreme(random.Random):
    """A source of one number, such as the least or the greatest that `random` may return."""

    def __init__(self, number: float) -> None:
        super().__init__(0)
        self.number = number

    def random(self) -> float:
        return self.number


LEAST, GREATEST = 0.0, 1 - 2**-53  # that `random` may return
# Parameters at the ends of the ranges that are accepted for gaps.
ENDS: list[tuple[str, tuple[float, ...]]] = [
    ("uniform", (0, HIGHEST)),
    ("uniform", (-HIGHEST / 2, HIGHEST)),
    ("uniform", (HIGHEST, HIGHEST)),
    ("triangular", (-HIGHEST, HIGHEST, HIGHEST)),
    ("triangular", (1, 1, 1)),
    ("normalvariate", (HIGHEST, 5e-324)),
    ("normalvariate", (5e-324, HIGHEST)),
    ("gauss", (1e-9, 0)),
    ("lognormvariate", (220, 4)),
    ("lognormvariate", (-220, 4)),
    (EXPOVARIATE, (1e-9,)),
    (EXPOVARIATE, (HIGHEST,)),
    ("vonmisesvariate", (HIGHEST, HIGHEST)),
    ("vonmisesvariate", (-HIGHEST, 5e-324)),
    ("vonmisesvariate", (0, 1.1e-6)),
    ("gammavariate", (0.01, 1e-9)),
    ("gammavariate", (HIGHEST, HIGHEST)),
    ("betavariate", (1, HIGHEST)),
    ("betavariate", (HIGHEST, 1e-9)),
    ("betavariate", (HIGHEST, HIGHEST)),
    ("paretovariate", (1.002,)),
    ("paretovariate", (1.01,)),
    ("paretovariate", (HIGHEST,)),
    ("weibullvariate", (HIGHEST, 0.3)),
    ("weibullvariate", (1e-9, HIGHEST)),
]


@pytest.mark.parametrize(("name", "parameters"), ENDS)
def test_gaps_at_the_ends_of_the_ranges_are_finite(name: str, parameters: tuple[float, ...]) -> None:
    mean = mean_gap(name, parameters)
    sources: list[random.Random] = [random.Random(seed) for seed in range(200)]
    if name in ("uniform", "gauss", "paretovariate"):  # the others would reject one number for ever
        sources += [Extreme(LEAST), Extreme(GREATEST)]
    residual = residual_sampler(name, parameters)
    for source in sources:
        assert math.isfinite(sampler(name, parameters, source)() * 1e6 / mean)
        assert 0 <= residual(source) * 1e6 / mean < math.inf


def test_a_constant_is_its_parameter() -> None:
    draw = sampler(CONSTANT, [0.25], random.Random(SEED))
    assert [draw(), draw()] == [0.25, 0.25]
    assert mean_gap(CONSTANT, [0.25]) == 0.25


@pytest.mark.parametrize("name", RANDOM)
def test_samples_repeat_with_the_seed_of_their_source(name: str) -> None:
    parameters = next(parameters for case, parameters, _ in CASES if case == name)

    def first_ten(seed: int) -> list[float]:
        draw = sampler(name, parameters, random.Random(seed))
        return [draw() for _ in range(10)]

    assert first_ten(1) == first_ten(1) != first_ten(2)


@pytest.mark.parametrize(
    ("name", "given_parameters", "expected"),
    [
        ("uniform", [], (0, 1)),
        ("uniform", [None, 4], (0, 4)),
        ("triangular", [], (0, 1, 0.5)),
        ("triangular", [2, 8], (2, 8, 5)),
        ("triangular", [2, 8, 3], (2, 8, 3)),
        ("normalvariate", [5], (5, 1)),
        ("lognormvariate", [], (0, 1)),
        (EXPOVARIATE, [], (1,)),
        ("gammavariate", [3], (3, 1)),
        ("weibullvariate", [None, 2], (1, 2)),
    ],
)
def test_parameters_that_are_left_out_have_their_defaults(
    name: str, given_parameters: list[float | None], expected: tuple[float, ...]
) -> None:
    assert complete(name, given_parameters) == expected


@pytest.mark.parametrize(
    ("name", "parameters", "wrong", "message"),
    [
        ("sometimes", [], "", "one of constant, uniform"),
        (CONSTANT, [], "seconds", "is missing"),
        (CONSTANT, [-1], "seconds", "must be from 0 to"),
        ("uniform", [2, 1], "", "uniform must have a ≤ b"),
        ("uniform", [1, 2, 3], "", "uniform must have the parameters a, b, got 3"),
        ("triangular", [0, 1, 2], "", "triangular must have low ≤ mode ≤ high, got triangular(low=0, high=1, mode=2)"),
        ("triangular", [2, 1], "", "low ≤ mode ≤ high"),
        ("gauss", [1, -1], "sigma", "must be from 0"),
        ("gauss", [math.nan, 1], "mu", "must be from"),
        ("gauss", [1, math.inf], "sigma", "must be from 0 to 1e+09, got inf"),
        ("lognormvariate", [0, 60], "sigma", "is too large: samples of lognormvariate(mu=0, sigma=60) overflow"),
        ("lognormvariate", [690, 4], "sigma", "overflow"),
        (EXPOVARIATE, [0], "lambd", "must be from 1e-09"),
        ("vonmisesvariate", [1], "kappa", "is missing: vonmisesvariate needs it"),
        ("vonmisesvariate", [1, -1], "kappa", "must be from 0"),
        ("gammavariate", [], "alpha", "is missing"),
        ("gammavariate", [1, 0], "beta", "must be from"),
        ("betavariate", [0, 1], "alpha", "must be from"),
        ("paretovariate", [0.05], "alpha", "must be from 0.1"),
        ("weibullvariate", [1, 0.001], "beta", "must be from 0.01"),
    ],
)
def test_an_error_names_the_invalid_parameter(name: str, parameters: list[float], wrong: str, message: str) -> None:
    with pytest.raises(DistributionError) as refused:
        sampler(name, parameters, random.Random(SEED))
    assert refused.value.errors[0].path == wrong
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("paretovariate", [1], "the mean of paretovariate(alpha=1) is infinite"),
        ("paretovariate", [0.5], "is infinite"),
        ("normalvariate", [0, 1], "is 0"),
        ("gauss", [-2, 1], "is -2"),
        ("uniform", [-2, 1], "is -0.5"),
        ("uniform", [0, 0], "is 0"),
        ("triangular", [-5, 1, 0], "is -1.3"),
        (CONSTANT, [0], "is 0"),
        ("paretovariate", [1.0001], "too skewed"),
        ("lognormvariate", [0, 9], "too skewed"),
        ("gammavariate", [1e-4], "too skewed"),
        ("lognormvariate", [690, 0.5], "mean gap of lognormvariate(mu=690, sigma=0.5) is 5.2"),
        ("lognormvariate", [-740, 0.1], "it must be from 1e-100 to 1e+100 s"),
        ("uniform", [-1e-200, 1.1e-200], "mean gap of uniform(a=-1e-200, b=1.1e-200) is 0 s"),
        (CONSTANT, [5e-324], "mean gap"),
    ],
)
def test_an_unpaceable_distribution_can_still_be_sampled(name: str, parameters: list[float], message: str) -> None:
    with pytest.raises(DistributionError, match="mean") as refused:
        mean_gap(name, parameters)
    assert message in str(refused.value)
    assert math.isfinite(sampler(name, parameters, random.Random(SEED))())


magnitudes = st.floats(-9, 9).map(lambda exponent: 10**exponent)


@pytest.mark.costly
@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(RANDOM), st.lists(magnitudes | magnitudes.map(lambda value: -value), max_size=3), st.integers())
def test_whatever_is_accepted_can_be_drawn_from_without_end(name: str, parameters: list[float], seed: int) -> None:
    try:
        complete(name, parameters)
    except DistributionError:
        assume(False)
    draw = sampler(name, parameters, random.Random(seed))
    assert all(math.isfinite(draw()) for _ in range(50))
    try:
        assert 0 < mean_gap(name, parameters) < math.inf
    except DistributionError as error:
        assert "mean" in str(error)


def test_the_greatest_samples_that_python_can_draw_are_finite() -> None:
    for name, parameters in (
        (EXPOVARIATE, (1e-9,)),
        ("paretovariate", (0.1,)),
        ("weibullvariate", (HIGHEST, 0.01)),
        ("uniform", (-HIGHEST, HIGHEST)),
        ("triangular", (-HIGHEST, HIGHEST, 0)),
    ):
        for number in (LEAST, GREATEST):
            assert math.isfinite(sampler(name, parameters, Extreme(number))()), name


def test_a_description_names_each_parameter() -> None:
    assert described("lognormvariate", (0, 1.5)) == "lognormvariate(mu=0, sigma=1.5)"
    assert parameter_names("betavariate") == ("alpha", "beta")
