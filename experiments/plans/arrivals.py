"""Distributions in plans: the arrival process and the think time of a workload, and the gaps of a command.

A distribution is a name and its parameters, those of the functions in Python's `random`. The parameters are empty where
none were given, and the defaults hold. Only an arrival process may be prerecorded (recordings.py): then the parameters
are the times.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from experiments.plans.fields import duration_of, number_reason
from experiments.plans.parsing import PlanErrors, refused
from experiments.plans.recordings import PROCESS, TIMES, RecordedArrivals
from loadgen.arrivals import distributions
from loadgen.arrivals.distributions import CONSTANT, EXPOVARIATE, DistributionError
from loadgen.arrivals.pacer import PRERECORDED
from routing.errors import Code, Place, shown

# The names of the original Galileo, and of the literature.
_ALIASES = {"exponential": EXPOVARIATE, "poisson": EXPOVARIATE}

Pair = tuple[str, list[float]]


def read_arrivals(value: Any, info: ValidationInfo) -> Pair:
    """The arrival process of a workload: a distribution whose mean the rate sets, or recorded times in order."""
    if value == PRERECORDED:
        value = {PROCESS: PRERECORDED}
    if isinstance(value, dict) and value.get(PROCESS) == PRERECORDED:
        return PRERECORDED, RecordedArrivals.model_validate(value, context=info.context).times_s
    return _read(value, in_seconds=False)


def read_seconds(value: Any) -> Pair:
    """A distribution of seconds, which is drawn from as it is; a number or a duration alone is a constant."""
    seconds = duration_of(value)
    if seconds is None:
        return _read(value, in_seconds=True)
    if reason := number_reason(seconds, 0, distributions.HIGHEST):
        raise refused(*reason)
    return CONSTANT, [seconds]


def plain(distribution: Pair) -> Any:
    """The distribution as a plan writes it; reading that gives the same again."""
    name, parameters = distribution
    if name == PRERECORDED:
        return {PROCESS: name, TIMES: parameters}
    if not parameters:
        return name
    return {PROCESS: name, **dict(zip(distributions.parameter_names(name), parameters, strict=True))}


def _read(value: Any, in_seconds: bool) -> Pair:
    """A distribution of one of the forms that plans accept.

    They are `lognormvariate`, `{process: lognormvariate, mu: 0, sigma: 1}`, and the original's `[lognormvariate, 0, 1]`
    and `{lognormvariate: [0, 1]}`.
    """
    errors = PlanErrors()
    name, given = _name_and_parameters(value, errors, in_seconds)
    parameters = _numbers(name, given, errors) if name else []
    errors.raise_in_model()
    try:
        if not in_seconds and name == CONSTANT:
            return CONSTANT, []  # the rate sets the gap
        complete = list(distributions.complete(name, parameters)) if parameters or in_seconds else []
        if not in_seconds:
            distributions.mean_gap(name, parameters)
        return name, complete if parameters else []
    except DistributionError as error:
        (reason,) = error.errors
        named = reason.path and isinstance(value, dict) and PROCESS in value
        errors.add((reason.path,) if named else (), reason.code, reason.message if named else str(reason))
    errors.raise_in_model()
    raise AssertionError("unreachable: the error was raised")


def _name_and_parameters(value: Any, errors: PlanErrors, in_seconds: bool) -> tuple[str, Any]:
    """The distribution's name ("" where it is wrong), and the data of its parameters."""
    given: Any = []
    name = value
    place: Place = ()
    if isinstance(value, list | tuple) and value:
        name, given = value[0], list(value[1:])
    elif isinstance(value, dict) and PROCESS in value:
        name, given = value[PROCESS], {parameter: item for parameter, item in value.items() if parameter != PROCESS}
        place = (PROCESS,)
    elif isinstance(value, dict) and len(value) == 1:
        ((name, item),) = value.items()
        given = list(item) if isinstance(item, list | tuple) else [] if item is None else [item]
    if isinstance(name, str) and (found := _ALIASES.get(name, name)) in distributions.DISTRIBUTIONS:
        return found, given
    known = ", ".join((*distributions.DISTRIBUTIONS, *_ALIASES, *(() if in_seconds else (PRERECORDED,))))
    errors.add(place, Code.CHOICE, f"must be one of {known}; got {shown(name)}")
    return "", given


def _numbers(name: str, given: Any, errors: PlanErrors) -> list[float | None]:
    """The parameters in the function's order, None for those left out at their place; empty where none is given."""
    names = distributions.parameter_names(name)
    items: list[tuple[str | int, Any]]
    if isinstance(given, dict):
        for parameter in given:
            if parameter not in names:
                place = parameter if isinstance(parameter, str) else shown(parameter)
                errors.add((place,), Code.UNKNOWN, f"unknown key; the parameters of {name} are {', '.join(names)}")
        items = [(parameter, given.get(parameter)) for parameter in names]
    else:
        items = list(enumerate(given, 1))
    for key, item in items:
        if item is not None and (reason := number_reason(item, -distributions.HIGHEST, distributions.HIGHEST)):
            errors.add((key,), *reason)
    parameters = [item for _, item in items]
    return [] if all(item is None for item in parameters) else parameters


def _schema(*simple: dict[str, Any], more: tuple[str, ...] = (), **recorded: Any) -> WithJsonSchema:
    names = {"type": "string", "enum": [*distributions.DISTRIBUTIONS, *_ALIASES, *more]}
    as_list = {"type": "array", "prefixItems": [names], "minItems": 1}
    return WithJsonSchema({"anyOf": [*simple, names, as_list, {"type": "object"}], **recorded})


Arrivals = Annotated[Pair, PlainValidator(read_arrivals), PlainSerializer(plain), _schema(more=(PRERECORDED,))]
Seconds = Annotated[
    Pair,
    PlainValidator(read_seconds),
    PlainSerializer(plain),
    _schema(
        {"type": "number", "minimum": 0, "maximum": distributions.HIGHEST}, {"type": "string", "format": "duration"}
    ),
]
