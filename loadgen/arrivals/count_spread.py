"""How far the number of arrivals of a random process may lie from the integral of its rate. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import pvariance

from loadgen.arrivals.distributions import CONSTANT, EXPOVARIATE, mean_gap, residual_sampler, sampler

DEVIATIONS = 3  # standard deviations within which a process explains a count
_LONGEST = 2_000.0  # mean gaps of a simulated client
_DRAWS = 100_000
_RUNS = range(50, 1001)


def explained_deviation(process: str, parameters: Sequence[float], planned: float, clients: int) -> float:
    """Returns how many arrivals the count of a stationary process may lie above or below the planned number.

    That is three standard deviations, and one arrival for rounding. The counts of Poisson arrivals have the variance
    `planned`. Those of other distributions are simulated for one client with a fixed seed; for clients with more than
    2,000 arrivals the variance is extrapolated, in proportion to the number (quadratically if the gaps' is infinite).

    Args:
        planned: the integral of the service's rate.
        clients: among which it is divided evenly.
    """
    if process == CONSTANT:
        return 1.0
    if process == EXPOVARIATE:
        return DEVIATIONS * math.sqrt(planned) + 1
    of_client = planned / clients
    simulated = min(of_client, _LONGEST)
    growth = 2 if process == "paretovariate" and parameters[0] <= 2 else 1
    variance = _simulated_variance(process, parameters, simulated)
    if of_client > simulated:
        variance *= (of_client / simulated) ** growth
    return DEVIATIONS * math.sqrt(clients * variance) + 1


def _simulated_variance(process: str, parameters: Sequence[float], mean: float) -> float:
    """Returns the variance of the number of arrivals in so many mean gaps."""
    source = random.Random(0)
    draw, residual = sampler(process, parameters, source), residual_sampler(process, parameters)
    end = mean * mean_gap(process, parameters)
    counts = []
    for _ in range(min(max(int(_DRAWS / (mean + 1)), _RUNS.start), _RUNS.stop - 1)):
        count, time = 0, residual(source)
        while time < end:
            count += 1
            time += max(draw(), 0.0)
        counts.append(count)
    return pvariance(counts)
