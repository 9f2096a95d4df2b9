"""Distributions of gaps and think times: constant, and those of Python's `random`. Pure.

A raw sample is a number of seconds; one that is not above 0 (the tail of a normal distribution) means "at once". Names,
order and meaning of the parameters are those of Python's `random`.
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from routing.errors import Code, InvalidInput

CONSTANT = "constant"
EXPOVARIATE = "expovariate"

# Beyond these limits a sample could overflow, or be lost by rounding.
LOWEST, HIGHEST = 1e-9, 1e9
_HIGHEST_EXPONENT = 700.0
# Of a mean gap: gaps are multiplied by its inverse, and must not overflow then.
_SHORTEST_MEAN, _LONGEST_MEAN = 1e-100, 1e100
# Of the logarithm of a length-biased Pareto gap: one of e^600 s is longer than any plan, and can still be multiplied.
_HIGHEST_LOG_GAP = 600.0
# Of a standard normal: Python's algorithms draw from 53 bits, none further out than this.
_FURTHEST_SIGMAS = 13.0
# See `share_of_common_gaps`.
_DRAWS = 2000
_BISECTIONS = 50
_ANGLES = 4000


# Draws a number from a random source.
Draw = Callable[[random.Random], float]


@dataclass(frozen=True)
class _Kind:
    """`defaults` of the parameters by name; None: it must be given (or, triangular's mode, is computed)."""

    defaults: dict[str, float | None]
    mean: Callable[..., float]  # of the distribution itself
    length_biased: Callable[..., Draw]  # see `residual_sampler`
    positive_mean: Callable[..., float] | None = None  # of max(sample, 0), where samples may be negative
    lowest: tuple[float, ...] = ()  # of each parameter, -HIGHEST where not given
    order: tuple[int, ...] = ()  # positions of parameters that must not decrease


def _uniform_positive_mean(a: float, b: float) -> float:
    return (a + b) / 2 if a >= 0 else max(b, 0.0) ** 2 / (2 * (b - a))


def _triangular_positive_mean(low: float, high: float, mode: float) -> float:
    """E[max(X, 0)], the integral of 1 - F over x > 0; F is quadratic on either side of the mode."""
    if low >= 0:
        return (low + high + mode) / 3
    if mode > 0:
        return (low + high + mode) / 3 + -(low**3) / (3 * (high - low) * (mode - low))
    return max(high, 0.0) ** 3 / (3 * (high - low) * (high - mode)) if high > mode else 0.0


def _normal_positive_mean(mu: float, sigma: float) -> float:
    """mu Φ(mu/sigma) + sigma φ(mu/sigma)."""
    if sigma == 0:
        return max(mu, 0.0)
    z = mu / sigma
    return mu * math.erfc(-z / math.sqrt(2)) / 2 + sigma * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _vonmises_mean(mu: float, kappa: float) -> float:
    """Returns the mean of the angle as a number from 0 to 2π, not the circular mean `mu`."""
    turn = 2 * math.pi
    if kappa <= 1e-6:  # as Python's function
        return math.pi
    mu %= turn
    near = min(mu, turn - mu)
    # The density at a deviation t from mu falls like exp(-2 kappa t² / π²) or faster: none is left at 14 / sqrt(kappa).
    far = min(math.pi, 14 / math.sqrt(kappa))

    def weight(t: float) -> float:
        return math.exp(kappa * (math.cos(t) - 1))

    beyond = _simpson(weight, near, far) / (2 * _simpson(weight, 0.0, far)) if near < far else 0.0
    return mu + turn * beyond if mu <= math.pi else mu - turn * beyond


def _simpson(function: Callable[[float], float], low: float, high: float, halves: int = 500) -> float:
    step = (high - low) / (2 * halves)
    inner = sum((4 if number % 2 else 2) * function(low + number * step) for number in range(1, 2 * halves))
    return (function(low) + inner + function(high)) * step / 3


def _uniform_length_biased(a: float, b: float) -> Draw:
    lowest = max(a, 0.0)
    return lambda source: math.sqrt(lowest**2 + source.random() * (b**2 - lowest**2))


def _triangular_length_biased(low: float, high: float, mode: float) -> Draw:
    """Accepts a gap with a probability that grows with its length (rejection sampling)."""

    def draw(source: random.Random) -> float:
        while True:
            gap = source.triangular(low, high, mode)
            if source.random() * high < gap:
                return gap

    return draw


def _normal_length_biased(mu: float, sigma: float) -> Draw:
    """Inverts the distribution function, whose integral over (mu + sigma z) φ(z) is mu Φ(z) - sigma φ(z)."""
    if sigma == 0:
        return lambda source: mu
    # Z as standard normal; in it, a gap is positive from here on.
    first = max(-mu / sigma, -_FURTHEST_SIGMAS)

    def below(z: float) -> float:
        return mu * math.erfc(-z / math.sqrt(2)) / 2 - sigma * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    start, total = below(first), below(_FURTHEST_SIGMAS) - below(first)

    def draw(source: random.Random) -> float:
        wanted, low, high = start + source.random() * total, first, _FURTHEST_SIGMAS
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if below(middle) < wanted else (low, middle)
        return max(mu + sigma * (low + high) / 2, 0.0)

    return draw


def _vonmises_length_biased(mu: float, kappa: float) -> Draw:
    """Draws from a table of angles, each as often as its density times the angle."""
    turn = 2 * math.pi
    far = min(math.pi, 14 / math.sqrt(kappa)) if kappa > 1e-6 else math.pi
    width = 2 * far / _ANGLES
    angles = [(mu - far + (number + 0.5) * width) % turn for number in range(_ANGLES)]
    weights = [angle * math.exp(kappa * (math.cos(angle - mu) - 1)) for angle in angles]
    below = list(accumulate(weights))

    def draw(source: random.Random) -> float:
        number = min(bisect(below, source.random() * below[-1]), _ANGLES - 1)
        return max(angles[number] + (source.random() - 0.5) * width, 0.0)

    return draw


def _pareto_length_biased(alpha: float) -> Draw:
    """As `paretovariate(alpha - 1)`, but a gap has a limit: its power overflows often if alpha is slightly above 1."""
    exponent = -1.0 / (alpha - 1) if alpha > 1 else -math.inf

    def draw(source: random.Random) -> float:
        number = 1.0 - source.random()
        return number**exponent if exponent * math.log(number) < _HIGHEST_LOG_GAP else math.exp(_HIGHEST_LOG_GAP)

    return draw


_NORMAL = _Kind(
    {"mu": 0.0, "sigma": 1.0},
    lambda mu, sigma: mu,
    _normal_length_biased,
    _normal_positive_mean,
    lowest=(-HIGHEST, 0.0),
)

_KINDS: dict[str, _Kind] = {
    CONSTANT: _Kind({"seconds": None}, lambda seconds: seconds, lambda seconds: lambda source: seconds, lowest=(0.0,)),
    "uniform": _Kind(
        {"a": 0.0, "b": 1.0}, lambda a, b: (a + b) / 2, _uniform_length_biased, _uniform_positive_mean, order=(0, 1)
    ),
    "triangular": _Kind(
        {"low": 0.0, "high": 1.0, "mode": None},
        lambda low, high, mode: (low + high + mode) / 3,
        _triangular_length_biased,
        _triangular_positive_mean,
        order=(0, 2, 1),
    ),
    "normalvariate": _NORMAL,
    "gauss": _NORMAL,
    "lognormvariate": _Kind(
        {"mu": 0.0, "sigma": 1.0},
        lambda mu, sigma: math.exp(mu + sigma * sigma / 2),
        lambda mu, sigma: lambda source: source.lognormvariate(mu + sigma * sigma, sigma),
        lowest=(-HIGHEST, 0.0),
    ),
    EXPOVARIATE: _Kind(
        {"lambd": 1.0},
        lambda lambd: 1 / lambd,
        lambda lambd: lambda source: source.gammavariate(2.0, 1 / lambd),
        lowest=(LOWEST,),
    ),
    "vonmisesvariate": _Kind(
        {"mu": None, "kappa": None}, _vonmises_mean, _vonmises_length_biased, lowest=(-HIGHEST, 0.0)
    ),
    "gammavariate": _Kind(
        {"alpha": None, "beta": 1.0},
        lambda alpha, beta: alpha * beta,
        lambda alpha, beta: lambda source: source.gammavariate(alpha + 1, beta),
        lowest=(LOWEST, LOWEST),
    ),
    "betavariate": _Kind(
        {"alpha": None, "beta": None},
        lambda alpha, beta: alpha / (alpha + beta),
        lambda alpha, beta: lambda source: source.betavariate(alpha + 1, beta),
        lowest=(LOWEST, LOWEST),
    ),
    "paretovariate": _Kind(
        {"alpha": None},
        lambda alpha: alpha / (alpha - 1) if alpha > 1 else math.inf,
        _pareto_length_biased,
        lowest=(0.1,),
    ),
    "weibullvariate": _Kind(
        {"alpha": 1.0, "beta": None},
        lambda alpha, beta: alpha * math.exp(math.lgamma(1 + 1 / beta)),
        lambda alpha, beta: lambda source: alpha * source.gammavariate(1 + 1 / beta, 1.0) ** (1 / beta),
        lowest=(LOWEST, 0.01),
    ),
}
DISTRIBUTIONS = tuple(_KINDS)


class DistributionError(InvalidInput):
    """A distribution cannot be drawn from; the path is the invalid parameter, "" stands for the whole distribution."""


def parameter_names(name: str) -> tuple[str, ...]:
    """Returns the names in the order of the arguments. Raises DistributionError for an unknown distribution."""
    return tuple(_kind(name).defaults)


def complete(name: str, parameters: Sequence[float | None]) -> tuple[float, ...]:
    """Returns all parameters: the given ones, and the defaults of those that are None or missing at the end.

    Raises:
        DistributionError: an unknown distribution, too many parameters, one missing, or one out of its range.
    """
    kind = _kind(name)
    if len(parameters) > len(kind.defaults):
        listed = ", ".join(kind.defaults)
        raise DistributionError.of("", Code.RANGE, f"{name} must have the parameters {listed}, got {len(parameters)}")
    given = [*parameters, *[None] * (len(kind.defaults) - len(parameters))]
    values = [default if value is None else value for value, default in zip(given, kind.defaults.values(), strict=True)]
    if name == "triangular" and values[2] is None and values[0] is not None and values[1] is not None:
        values[2] = (values[0] + values[1]) / 2
    found: list[float] = []
    for index, (parameter, value) in enumerate(zip(kind.defaults, values, strict=True)):
        if value is None:
            raise DistributionError.of(parameter, Code.REQUIRED, f"is missing: {name} needs it")
        lowest = kind.lowest[index] if kind.lowest else -HIGHEST
        if not lowest <= value <= HIGHEST:
            raise DistributionError.of(parameter, Code.RANGE, f"must be from {lowest:g} to {HIGHEST:g}, got {value:g}")
        found.append(float(value))
    ordered = [found[index] for index in kind.order]
    if ordered != sorted(ordered):
        listed = " ≤ ".join(list(kind.defaults)[index] for index in kind.order)
        raise DistributionError.of("", Code.CONFLICT, f"{name} must have {listed}, got {described(name, found)}")
    if name == "lognormvariate":
        mu, sigma = found
        if mu + max(_FURTHEST_SIGMAS * sigma, sigma * sigma / 2) > _HIGHEST_EXPONENT:
            message = f"is too large: samples of {described(name, found)} overflow"
            raise DistributionError.of("sigma", Code.RANGE, message)
    return tuple(found)


def described(name: str, parameters: Sequence[float]) -> str:
    """Returns a text for messages: lognormvariate(mu=0, sigma=1)."""
    listed = ", ".join(f"{key}={value:g}" for key, value in zip(_kind(name).defaults, parameters, strict=True))
    return f"{name}({listed})"


def sampler(name: str, parameters: Sequence[float | None], source: random.Random) -> Callable[[], float]:
    """Returns a function that draws raw samples in seconds from the source. Raises as `complete` does."""
    values = complete(name, parameters)
    if name == CONSTANT:
        (seconds,) = values
        return lambda: seconds
    return partial(getattr(source, name), *values)


def residual_sampler(name: str, parameters: Sequence[float | None]) -> Draw:
    """Returns a function that draws how long a process that has run for ever waits for its next arrival, in seconds.

    A gap in which a moment lies is length-biased: long gaps hold more moments. The moment is anywhere in it. A process
    that begins with such a wait has the mean rate from its first moment on (Cox, Renewal Theory, 5.2 and 2.1). Raises
    as `complete` does; the distribution must pace a schedule (`mean_gap`).
    """
    draw = _kind(name).length_biased(*complete(name, parameters))
    return lambda source: source.random() * draw(source)


def mean_gap(name: str, parameters: Sequence[float | None]) -> float:
    """Returns the mean of max(sample, 0): a sample that is not above 0 is a gap of 0, which moves the mean.

    Raises:
        DistributionError: as `complete` does; and for a distribution that cannot pace a schedule, because its own mean
            is infinite or not above 0, or consists of gaps so rare that most plans would contain none of them; or if
            the mean gap is not from 1e-100 to 1e100 s.
    """
    kind, values = _kind(name), complete(name, parameters)
    mean = kind.mean(*values)
    if not 0 < mean < math.inf:
        infinite = "infinite" if mean > 0 else f"{mean:g}"
        message = f"the mean of {described(name, values)} is {infinite}; gaps need a finite mean above 0"
        raise DistributionError.of("", Code.RANGE, message)
    if kind.positive_mean is not None:
        mean = kind.positive_mean(*values)
    if not _SHORTEST_MEAN <= mean <= _LONGEST_MEAN:
        limits = f"from {_SHORTEST_MEAN:g} to {_LONGEST_MEAN:g} s"
        message = f"the mean gap of {described(name, values)} is {mean:g} s; it must be {limits}"
        raise DistributionError.of("", Code.RANGE, message)
    if name != CONSTANT and share_of_common_gaps(name, values, mean) < 0.01:
        message = f"{described(name, values)} is too skewed: rare giant gaps make up more than 99 % of its mean"
        raise DistributionError.of("", Code.RANGE, message)
    return mean


def share_of_common_gaps(name: str, parameters: Sequence[float], mean: float) -> float:
    """Returns E[min(gap, mean)] / mean, 0 to 1, estimated from draws with a fixed seed.

    By Wald's identity, until a giant gap a plan has at most about 1 / share times as many arrivals as its rates give:
    with a small share, it would practically not end.
    """
    draw = sampler(name, parameters, random.Random(0))
    return sum(min(max(draw(), 0.0), mean) for _ in range(_DRAWS)) / _DRAWS / mean


def _kind(name: str) -> _Kind:
    try:
        return _KINDS[name]
    except KeyError as error:
        raise DistributionError.of("", Code.CHOICE, f"must be one of {', '.join(_KINDS)}, got {name!r:.80}") from error
