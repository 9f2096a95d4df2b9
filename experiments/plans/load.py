"""How much load a workload is: requests per second in the open model, clients in the closed one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from experiments.plans.arrivals import DEFAULT_ARRIVALS, Distribution, read_arrivals, read_distribution
from experiments.plans.fields import Section, number_reason, shown
from experiments.plans.model import DEFAULT_THINK_TIME, DEFAULTS
from loadgen.arrivals.pacer import PRERECORDED
from loadgen.protocol.messages import CLOSED, INTERACTIVE, MODELS, OPEN

MAX_RATE_RPS = 1_000_000
MAX_CLIENTS = 100_000
MAX_IN_FLIGHT = 100_000
MAX_LATENESS_S = 3600
MAX_REQUESTS_PER_CLIENT = 100_000_000
DEFAULT_CLIENTS = 3

_ONLY_OPEN = {
    "ticks": "the closed model has no rate: each client sends when it has its response; give `clients` per interval",
    "clients_per_host": "has no effect in the closed model, where `clients` says how many there are in each interval",
    "arrival_pattern": "has no effect in the closed model, where `think_time` says how long a client pauses",
    "max_in_flight": "has no effect in the closed model, where each client has one request in flight at most",
    "max_lateness": "has no effect in the closed model, where a client's request is sent however late it is",
}
_ONLY_CLOSED = {
    "clients": "needs `model: closed`; in the open model `ticks` say the rate and `clients_per_host` who sends it",
    "think_time": "needs `model: closed`; in the open model `ticks` and `arrival_pattern` say when a client sends",
    "requests_per_client": "needs `model: closed`; in the open model `ticks` say how many requests there are",
}


@dataclass(frozen=True)
class Load:
    """`ticks` or `clients_by_interval` is empty, as the model is; `clients` is the number of different ones."""

    model: str
    ticks: list[float] = field(default_factory=list)
    clients_by_interval: list[int] = field(default_factory=list)
    clients: int = DEFAULT_CLIENTS
    arrival_pattern: Distribution = DEFAULT_ARRIVALS
    think_time: Distribution = DEFAULT_THINK_TIME
    requests_per_client: int | None = None
    max_in_flight: int = DEFAULTS.max_in_flight
    max_lateness_s: float = DEFAULTS.max_lateness_s


def read_load(section: Section, intervals: int | None) -> Load:
    """The model and what it asks for; a key of the other model is refused with a sentence.

    Args:
        intervals: how many there are; None where the plan does not say so rightly.
    """
    model = section.choice("model", DEFAULTS.model, MODELS)
    for key, sentence in (_ONLY_OPEN if model == CLOSED else _ONLY_CLOSED).items():
        if section.has(key):
            section.wrong(key, sentence)
    if model == OPEN:
        arrival_pattern = read_arrivals(section)
        ticks: list[float] = []
        if arrival_pattern[0] != PRERECORDED:
            ticks = _read_steps(section, "ticks", "numbers", _rate_reason, intervals)
        elif section.has("ticks"):
            section.wrong("ticks", "has no effect beside prerecorded arrivals, which have their own times; remove it")
        return Load(
            model,
            ticks=ticks,
            arrival_pattern=arrival_pattern,
            clients=section.integer("clients_per_host", DEFAULT_CLIENTS, 1, MAX_CLIENTS),
            max_in_flight=section.integer("max_in_flight", DEFAULTS.max_in_flight, 1, MAX_IN_FLIGHT),
            max_lateness_s=section.duration_s("max_lateness", DEFAULTS.max_lateness_s, MAX_LATENESS_S),
        )
    steps = _read_steps(section, "clients", "whole numbers", _clients_reason, intervals)
    if steps and not any(steps):
        section.wrong("clients", "at least one number above 0 is needed")
    most = int(max(steps, default=0)) or 1
    return Load(
        model,
        clients_by_interval=[int(step) for step in steps],
        clients=most,
        max_in_flight=most,
        think_time=read_distribution(section, "think_time", DEFAULT_THINK_TIME, in_seconds=True),
        requests_per_client=section.optional_integer("requests_per_client", 1, MAX_REQUESTS_PER_CLIENT),
    )


def read_group_load(section: Section) -> Load:
    """Of an interactive group: how many clients; its user says later what they do."""
    return Load(
        INTERACTIVE,
        clients=section.integer("num", 1, 1, MAX_CLIENTS),
        max_in_flight=section.integer("max_in_flight", DEFAULTS.max_in_flight, 1, MAX_IN_FLIGHT),
        max_lateness_s=section.duration_s("max_lateness", DEFAULTS.max_lateness_s, MAX_LATENESS_S),
    )


def _rate_reason(value: object) -> str | None:
    return number_reason(value, 0, MAX_RATE_RPS)


def _clients_reason(value: object) -> str | None:
    if isinstance(value, float):
        return f"a whole number is needed, not {shown(value)}"
    return number_reason(value, 0, MAX_CLIENTS)


def _read_steps(
    section: Section, key: str, kind: str, reason_of: Callable[[object], str | None], intervals: int | None
) -> list[float]:
    value = section.get(key, required=True)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        section.wrong(key, f"a list of {kind} is needed, not {shown(value)}")
        return []
    reasons = [reason_of(step) for step in value]
    for index, reason in enumerate(reasons):
        if reason:
            section.wrong(f"{key}[{index}]", reason)
    if intervals is not None and len(value) != intervals:
        few = "few" if len(value) < intervals else "many"
        section.wrong(key, f"too {few} numbers: {len(value)} for {intervals} intervals (duration / interval)")
    return [step for step, reason in zip(value, reasons, strict=True) if reason is None]
