"""Arrival processes and think times in a plan: distributions of Python's `random` by name, with their parameters.

Only an arrival process may be prerecorded; see recordings.
"""

from __future__ import annotations

from typing import Any

from experiments.plans.fields import Section, child, duration_of, number_reason, shown
from experiments.plans.recordings import PROCESS, TIMES, read_recording
from loadgen.arrivals import distributions
from loadgen.arrivals.distributions import CONSTANT, EXPOVARIATE, DistributionError
from loadgen.arrivals.pacer import PRERECORDED

# The original's words, and the field's.
_ALSO_CALLED = {"exponential": EXPOVARIATE, "poisson": EXPOVARIATE}

Distribution = tuple[str, list[float]]
DEFAULT_ARRIVALS: Distribution = (CONSTANT, [])


def read_arrivals(section: Section) -> Distribution:
    """The arrival process of a workload and its parameters, which of a prerecorded one are the times, in order."""
    value = section.get("arrival_pattern")
    if value == PRERECORDED:
        value = {PROCESS: PRERECORDED}
    if isinstance(value, dict) and value.get(PROCESS) == PRERECORDED:
        times_s = read_recording(Section(value, section.at("arrival_pattern"), section.problems))
        return PRERECORDED, times_s
    return read_distribution(section, "arrival_pattern", DEFAULT_ARRIVALS)


def read_distribution(section: Section, key: str, default: Distribution, in_seconds: bool = False) -> Distribution:
    """A distribution's name and parameters; the default where there is none, or a wrong one.

    Accepted are `lognormvariate`, `{process: lognormvariate, mu: 0, sigma: 1}`, and the original's forms
    `[lognormvariate, 0, 1]` and `{lognormvariate: [0, 1]}`. Without parameters the list is empty: the defaults hold.

    Args:
        in_seconds: the samples are taken as they are, in seconds, and a number or a duration alone is a constant.
            Otherwise the rate sets their mean, which must be finite and above 0; a number for `constant` says nothing.
    """
    value = section.get(key)
    if value is None:
        return default
    if in_seconds and (seconds := duration_of(value)) is not None:
        if reason := number_reason(seconds, 0, distributions.HIGHEST):
            section.wrong(key, reason)
            return default
        return CONSTANT, [seconds]
    name, given = _name_and_parameters(section, key, value, in_seconds)
    if name is None or given is None:
        return default
    try:
        parameters = _numbers(section, key, name, given)
        if parameters is None:
            return default
        if in_seconds:
            distributions.complete(name, parameters)
        elif name == CONSTANT:
            return CONSTANT, []
        else:
            distributions.mean_gap(name, parameters)
        return name, list(distributions.complete(name, parameters)) if parameters else []
    except DistributionError as error:
        if error.parameter and isinstance(value, dict) and PROCESS in value:
            section.wrong(f"{key}.{error.parameter}", error.message)
        else:
            section.wrong(key, str(error))
        return default


def in_plan(distribution: Distribution) -> Any:
    """What was read, as a plan writes it: reading that gives the same again."""
    name, parameters = distribution
    if name == PRERECORDED:
        return {PROCESS: name, TIMES: parameters}
    if not parameters:
        return name
    return {PROCESS: name, **dict(zip(distributions.parameter_names(name), parameters, strict=True))}


def _name_and_parameters(section: Section, key: str, value: Any, in_seconds: bool) -> tuple[str | None, Any]:
    """The distribution's name, None for a wrong one, and what is given as its parameters."""
    given: Any = []
    name = value
    if isinstance(value, list | tuple) and value:
        name, given = value[0], list(value[1:])
    elif isinstance(value, dict) and PROCESS in value:
        name, given = value[PROCESS], {parameter: item for parameter, item in value.items() if parameter != PROCESS}
    elif isinstance(value, dict) and len(value) == 1:
        ((name, item),) = value.items()
        given = list(item) if isinstance(item, list | tuple) else [] if item is None else [item]
    if isinstance(name, str) and (found := _ALSO_CALLED.get(name, name)) in distributions.DISTRIBUTIONS:
        return found, given
    recorded = () if in_seconds else (PRERECORDED,)
    known = ", ".join((*distributions.DISTRIBUTIONS, *_ALSO_CALLED, *recorded))
    place = f"{key}.{PROCESS}" if isinstance(value, dict) and PROCESS in value else key
    section.wrong(place, f"one of {known} is needed, not {shown(name)}")
    return None, None


def _numbers(section: Section, key: str, name: str, given: Any) -> list[float | None] | None:
    """The parameters in the function's order, None for those left out; None when something is wrong with them."""
    names = distributions.parameter_names(name)
    before = len(section.problems)
    if isinstance(given, dict):
        for parameter in given:
            if parameter not in names:
                path = child(section.at(key), parameter)
                section.problems.add(path, f"unknown key; {name} takes {', '.join(names)}")
        items = [(child(section.at(key), parameter), given.get(parameter)) for parameter in names]
    else:
        items = [(f"{section.at(key)}[{index}]", item) for index, item in enumerate(given, 1)]
    for path, item in items:
        if item is not None and (reason := number_reason(item, -distributions.HIGHEST, distributions.HIGHEST)):
            section.problems.add(path, reason)
    if len(section.problems) > before:
        return None
    parameters = [item for _, item in items]
    return [] if all(item is None for item in parameters) else parameters
