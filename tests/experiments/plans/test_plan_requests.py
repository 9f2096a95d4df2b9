"""What a plan's `kwargs` may hold is what the engine takes, and means the same to both."""

from __future__ import annotations

import json
from typing import Any

import pytest

from experiments.plans import parse
from experiments.plans.requests import longest_request_s
from loadgen.engine.http.request import Preparer
from loadgen.protocol.codec import to_wire
from loadgen.protocol.messages import DATA_KEYWORDS
from tests.experiments.plans.bad_plans import WORKLOAD, plan_with

EXAMPLES: dict[str, list[Any]] = {
    "params": [{"a": [1, "b"], "c": None}, "raw=1"],
    "data": ["text", {"field": "value", "many": [1, 2]}],
    "json": [{"a": [1, None]}, [], "text"],
    "files": [{"image": "content", "b": ["b.txt", "content"], "c": ["c.png", "content", "image/png"]}],
    "headers": [{"X-A": "b"}],
    "cookies": [{"a": "b"}],
    "auth": [["user", "password"]],
    "timeout": [2.5, 1, [1, 2.5], [None, 3]],
    "allow_redirects": [True, False],
    "verify": [True, False, "/etc/ssl/bundle.pem"],
    "cert": ["/etc/ssl/client.pem", ["/etc/ssl/client.pem", "/etc/ssl/client.key"]],
}


def spec_of(kwargs: dict[str, Any], **workload: Any) -> dict[str, Any]:
    """The workload as it comes out of the database."""
    settings = {f"{WORKLOAD}.{name}": value for name, value in workload.items()}
    (spec,) = parse(plan_with({f"{WORKLOAD}.kwargs": kwargs, **settings})).workload_specs()
    wire: dict[str, Any] = json.loads(json.dumps(to_wire(spec)))
    return wire


def test_each_keyword_has_an_example() -> None:
    assert set(EXAMPLES) == set(DATA_KEYWORDS)


@pytest.mark.parametrize("name", DATA_KEYWORDS)
def test_what_a_plan_may_hold_is_what_the_engine_takes(name: str) -> None:
    for value in EXAMPLES[name]:
        kwargs = spec_of({name: value})["kwargs"]
        assert kwargs == {name: value}
        assert Preparer("X-Request-Id", "group", 30).prepare("http://pi", "POST", "/", kwargs).head


@pytest.mark.parametrize(
    ("timeout", "longest_s"), [(None, 22), (20, 60), (0.5, 1.5), ([3, 4], 11), ([None, 4], 10), ([3, None], 23)]
)
def test_longest_request_is_the_sum_of_its_time_outs(timeout: Any, longest_s: float) -> None:
    spec = spec_of({"timeout": timeout}, connect_timeout="2s", request_timeout="10s")
    assert longest_request_s(spec) == longest_s
