"""The report beside the logs of targets that change request ids, or log several lines of each."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.logging_targets import (
    LoggingTarget,
    envoy_like,
    heroku_like,
    phoenix_like,
    preserving_envoy_like,
    rails_like,
)
from tests.support.plans import plan_data

KINDS: dict[str, Callable[[Path], LoggingTarget]] = {
    "rails": rails_like,
    "phoenix": phoenix_like,
    "heroku": heroku_like,
    "gateway": preserving_envoy_like,
    "mesh": envoy_like,
}


@pytest.fixture
def targets(tmp_path):
    with ExitStack() as stack:
        yield {name: stack.enter_context(kind(tmp_path / f"{name}.log")) for name, kind in KINDS.items()}


def test_the_account_closes_with_the_logs_of_targets_that_rewrite_ids(galileo, targets, tmp_path):
    """One service behind each kind of target, and one more at Envoy with ids that it does not know."""
    plan = plan_data()
    plan["configuration"]["workloads"] = [{"service": name, "ticks": [10, 10]} for name in targets]
    plan["routing"] = [{"service": name, "hosts": [target.host]} for name, target in targets.items()]
    experiment_id = galileo.run(plan)["id"]
    logs = {name: tmp_path / f"{name}.log" for name in targets}
    kept = [log for name, log in logs.items() if name != "mesh"]

    comparison = galileo.report(experiment_id, *logs.values(), check=False)["target"]
    (change,) = comparison["changed_ids"]
    assert (change["service"], change["change"], change["lines"]) == ("mesh", "replaced", 20)
    assert "Envoy and Istio" in change["sentence"]
    assert change["found"] in logs["mesh"].read_text()
    assert comparison["contradictions"] == [change["sentence"]]
    assert (comparison["logged"], comparison["missing"], comparison["not_compared"]) == (80, 0, 20)
    several = [{"service": name, "lines": 2, "all": True, "logs": 1} for name in ("rails", "phoenix")]
    assert comparison["several_lines"] == several
    # As many requests as lines of the targets' logs; Rails and Phoenix log two of each.
    assert [len(log.read_text().splitlines()) for log in kept] == [40, 40, 20, 20]
    assert [len(target.seen) for target in targets.values()] == [20] * 5
