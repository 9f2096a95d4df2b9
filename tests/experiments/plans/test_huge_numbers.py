"""Integers that no float can hold, at every number of a plan, a group and a command: an error that names the key."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.plans import PlanInvalid, parse, parse_group
from experiments.plans.commands import parse_clients, parse_command
from experiments.plans.workload import GroupWorkload, Workload
from tests.experiments.plans.bad_plans import CLOSED_WORKLOAD, MISSING, WORKLOAD, plan_with

HUGE = 10**400
DISTRIBUTIONS = ("expovariate", "lognormvariate", "uniform", "triangular", "paretovariate")
KEYWORDS = ("data", "json", "params", "headers", "timeout", "files", "cookies", "auth", "allow_redirects")


def recorded(**recording: Any) -> dict[str, Any]:
    return {f"{WORKLOAD}.ticks": MISSING, f"{WORKLOAD}.arrival_pattern": {"process": "prerecorded", **recording}}


# (changes to a plan, the beginning of the path of each error)
PLANS: list[tuple[dict[str, Any], str]] = [
    *(({f"{WORKLOAD}.{key}": HUGE}, f"{WORKLOAD}.{key}") for key in Workload.key_names() if key not in ("clients",)),
    *(
        ({WORKLOAD: CLOSED_WORKLOAD, f"{WORKLOAD}.{key}": value}, f"{WORKLOAD}.{key}")
        for key, value in (("think_time", HUGE), ("requests_per_client", HUGE), ("clients", [HUGE, 1, 1]))
    ),
    *(({f"{WORKLOAD}.arrival_pattern": [name, HUGE]}, f"{WORKLOAD}.arrival_pattern") for name in DISTRIBUTIONS),
    *(({f"{WORKLOAD}.kwargs": {key: {"a": HUGE}}}, f"{WORKLOAD}.kwargs.{key}") for key in KEYWORDS),
    ({f"{WORKLOAD}.ticks": [1, HUGE, 0.5]}, f"{WORKLOAD}.ticks[1]"),
    ({f"{WORKLOAD}.kwargs": {"timeout": [1, HUGE]}}, f"{WORKLOAD}.kwargs.timeout"),
    ({f"{WORKLOAD}.client_parameters": {"x": [HUGE]}}, f"{WORKLOAD}.client_parameters.x[0]"),
    (recorded(times=[1e9, HUGE]), f"{WORKLOAD}.arrival_pattern.times["),
    (recorded(times=[HUGE]), f"{WORKLOAD}.arrival_pattern.times[0]"),
    (recorded(times=[HUGE, HUGE]), f"{WORKLOAD}.arrival_pattern.times["),
    (recorded(times=[0.5, HUGE]), f"{WORKLOAD}.arrival_pattern.times[1]"),
    (recorded(gaps=[1e9, HUGE]), f"{WORKLOAD}.arrival_pattern.gaps["),
    *(
        ({key: HUGE}, key)
        for key in ("seed", "arrivals_version", "metadata.x", "configuration.duration", "configuration.interval")
    ),
    ({"configuration.interval": [4, HUGE, 2]}, "configuration.interval[1]"),
    ({"worker_labels": {"zone": HUGE}}, "worker_labels.zone"),
    ({"routing": [{"service": "web", "hosts": ["a", "b"], "weights": [0.5, HUGE]}]}, "routing[0].weights[1]"),
    ({"events": [{"at": HUGE, "name": "x"}]}, "events[0].at"),
    ({"events": [{"at": 1, "name": "x", "value": HUGE}]}, "events[0].value"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "path"), PLANS, ids=[f"{path}-{n}" for n, (_, path) in enumerate(PLANS)])
@pytest.mark.parametrize("sign", [1, -1])
def test_huge_integer_in_a_plan_is_an_error_of_its_key(changes: dict[str, Any], path: str, sign: int) -> None:
    with pytest.raises(PlanInvalid) as caught:
        parse(plan_with(changed_sign(changes) if sign < 0 else changes))
    assert [error.path for error in caught.value.errors if error.path.startswith(path)]


@pytest.mark.parametrize("key", GroupWorkload.key_names())
@pytest.mark.parametrize("value", [HUGE, -HUGE, [HUGE], {"a": HUGE}], ids=("plus", "minus", "list", "mapping"))
def test_huge_integer_in_a_group_is_an_error_of_its_key(key: str, value: Any) -> None:
    with pytest.raises(PlanInvalid) as caught:
        parse_group({"service": "web", key: value})
    assert [error.path for error in caught.value.errors if error.path.startswith(key)]


@pytest.mark.parametrize(
    "command",
    [
        {"rps": HUGE}, {"n": HUGE}, {"ia": HUGE}, {"ia": ["expovariate", HUGE]}, {"ia": ["uniform", 0.5, HUGE]},
        {"ia": ["prerecorded", [1.5, HUGE]]}, {"ia": ["prerecorded", HUGE]},
    ],
    ids=range(7),
)  # fmt: skip
@pytest.mark.parametrize("sign", [1, -1])
def test_huge_integer_in_a_command_is_an_error(command: dict[str, Any], sign: int) -> None:
    with pytest.raises(PlanInvalid):
        parse_command(changed_sign(command) if sign < 0 else command)


@pytest.mark.parametrize("key", ["add", "close"])
def test_huge_number_of_clients_is_an_error(key: str) -> None:
    with pytest.raises(PlanInvalid):
        parse_clients({key: HUGE})


def changed_sign(value: Any) -> Any:
    """The value with -HUGE in the place of HUGE."""
    if isinstance(value, dict):
        return {key: changed_sign(item) for key, item in value.items()}
    if isinstance(value, list):
        return [changed_sign(item) for item in value]
    return -HUGE if isinstance(value, int) and value == HUGE else value
