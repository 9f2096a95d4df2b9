"""Commands to an interactive group, from plain data."""

from __future__ import annotations

import random
from typing import Any

from experiments.plans.arrivals import read_distribution
from experiments.plans.errors import Problems
from experiments.plans.events import MAX_VALUE
from experiments.plans.fields import Section, number_reason, text_reason
from experiments.plans.load import MAX_CLIENTS, MAX_RATE_RPS, MAX_REQUESTS_PER_CLIENT
from experiments.plans.recorded_gaps import Readers, is_recorded, read_recorded_gaps
from loadgen.arrivals import distributions
from loadgen.arrivals.pacer import PRERECORDED
from loadgen.protocol.messages import BACK_TO_BACK, GAPS, RATE

_DRAWS = 1000
NO_READERS = Readers()
WITHOUT_END = "one of n (the number of requests of each client) and ia (the gap before each) is needed"


def parse_command(data: object, readers: Readers = NO_READERS) -> dict[str, Any]:
    """The fields of messages.Phase that a command amounts to, without number and start.

    `{"rps": 2.5}` is a rate of each client. `{"n": 10, "ia": ["expovariate", 5]}` is requests, of which one of the two
    may be missing: without `ia` they are made back to back, without `n` they have no end.

    Args:
        readers: of recorded gaps that are only named.

    Raises:
        PlanInvalid: with every error, each naming its field.
    """
    problems = Problems()
    section = Section(data, "", problems)
    found = _read(section, problems, readers)
    section.close()
    problems.raise_if_any()
    return found


def parse_clients(data: object) -> tuple[int, int]:
    """How many clients to add and to close, of `{"add": 3}` or `{"close": 2}`; 0 where not given.

    Raises:
        PlanInvalid: with every error, each naming its field.
    """
    problems = Problems()
    section = Section(data, "", problems)
    found = {key: section.optional_integer(key, 1, MAX_CLIENTS) or 0 for key in ("add", "close")}
    section.close()
    if not len(problems) and sum(map(bool, found.values())) != 1:
        problems.add("add", "one of add and close, a number of clients, is needed")
    problems.raise_if_any()
    return found["add"], found["close"]


def parse_mark(data: object) -> tuple[str, str]:
    """The `name` and the `value` ("" if not given) of a mark for an experiment's timeline.

    Raises:
        PlanInvalid: with every error, each naming its field.
    """
    problems = Problems()
    section = Section(data, "", problems)
    name, value = section.text("name", "", required=True), section.get("value")
    if value not in (None, "") and (reason := text_reason(value, MAX_VALUE)):
        section.wrong("value", reason)
    section.close()
    problems.raise_if_any()
    return name, value or ""


def parse_tracing(data: object) -> bool:
    """Whether traces are to be stored, of `{"tracing": false}`.

    Raises:
        PlanInvalid: with every error, each naming its field.
    """
    problems = Problems()
    section = Section(data, "", problems)
    section.get("tracing", required=True)
    tracing = section.flag("tracing", True)
    section.close()
    problems.raise_if_any()
    return tracing


def _read(section: Section, problems: Problems, readers: Readers) -> dict[str, Any]:
    rps = section.get("rps")
    if "rps" in section:  # also as None, which is no rate
        if reason := number_reason(rps, 0, MAX_RATE_RPS):
            section.wrong("rps", reason)
            return {}
        return {"kind": RATE, "rate_rps": float(rps)}
    requests = section.optional_integer("n", 1, MAX_REQUESTS_PER_CLIENT)
    if not section.has("ia"):
        if requests is None:
            problems.add("n", WITHOUT_END)
        return {"kind": BACK_TO_BACK, "requests": requests}
    gaps = section.get("ia")
    if is_recorded(gaps):
        recorded = read_recorded_gaps(section, "ia", gaps, readers)
        return {
            "kind": GAPS,
            "requests": requests,
            "distribution": PRERECORDED,
            "parameters": recorded.of_all,
            "recorded": recorded.of_each,
        }
    name, parameters = read_distribution(section, "ia", (distributions.CONSTANT, [0.0]), in_seconds=True)
    if requests is None and not len(problems) and not _takes_time(name, parameters):
        section.wrong("ia", "gaps that are never above 0 need n, the number of requests of each client")
    return {"kind": GAPS, "requests": requests, "distribution": name, "parameters": parameters}


def _takes_time(name: str, parameters: list[float]) -> bool:
    """Whether some gaps of a distribution are above 0: else there would be no end of requests at one moment."""
    draw = distributions.sampler(name, parameters, random.Random(0))
    return any(draw() > 0 for _ in range(_DRAWS))
