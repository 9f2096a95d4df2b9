"""The example plans: readable YAML of the documented shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from experiments.plans import parse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PLANS = sorted(EXAMPLES.glob("*.yml"))
SECONDS = {"s": 1, "m": 60}
WORKLOAD_KEYS = {
    "service", "ticks", "clients_per_host", "arrival_pattern", "client", "client_parameters", "worker_labels",
}  # fmt: skip


def seconds(text: str) -> int:
    return int(text[:-1]) * SECONDS[text[-1]]


def test_there_are_three_example_plans() -> None:
    assert [path.name for path in PLANS] == ["constant.yml", "demo.yml", "routing.yml"]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_has_the_documented_shape(path: Path) -> None:
    plan = yaml.safe_load(path.read_text())
    assert set(plan) <= {"experiment", "configuration", "routing", "seed", "metadata"}
    assert plan["experiment"] == {"name": path.stem, "creator": "galileo"}
    configuration = plan["configuration"]
    assert set(configuration) == {"duration", "interval", "workloads"}
    for workload in configuration["workloads"]:
        assert set(workload) <= WORKLOAD_KEYS
        assert len(workload["ticks"]) == seconds(configuration["duration"]) / seconds(configuration["interval"])
        assert (EXAMPLES / "apps" / workload["client"] / "manifest.yml").exists()


def test_the_demos_load_is_below_its_instances_capacity() -> None:
    plan = yaml.safe_load((EXAMPLES / "demo.yml").read_text())
    workload = plan["configuration"]["workloads"][0]
    # Two servers of 40 ms each; the heaviest instance gets three requests of six.
    assert max(workload["ticks"]) * 3 / 6 < 0.7 * 2 / 0.040
    assert "routing" not in plan, "the demonstration passes the hosts itself"
    assert plan["seed"] > 0


def test_the_routing_of_a_plan_has_a_weight_for_each_host() -> None:
    plan = yaml.safe_load((EXAMPLES / "routing.yml").read_text())
    assert {record["service"] for record in plan["routing"]} == {
        workload["service"] for workload in plan["configuration"]["workloads"]
    }
    assert all(len(record["hosts"]) == len(record["weights"]) for record in plan["routing"])


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_is_a_valid_one(path: Path) -> None:
    plan = parse(yaml.safe_load(path.read_text()))
    assert plan.experiment.name == path.stem
    assert all(workload.client == "squeezenet" for workload in plan.workloads)
