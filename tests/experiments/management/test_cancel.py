"""`manage.py cancel`: stops experiments without the web server."""

from __future__ import annotations

import io

import pytest
import redis
from django.core.management import CommandError, call_command

from experiments.models import Event, Experiment
from experiments.services import experiments, interactive
from tests.support import batches
from tests.support.plans import plan

pytestmark = pytest.mark.django_db


def cancel(*arguments: str) -> list[str]:
    out = io.StringIO()
    call_command("cancel", *arguments, stdout=out)
    return out.getvalue().splitlines()


def test_queued_experiment_ends_at_once(broker: redis.Redis) -> None:
    queued = experiments.create(plan(), "tester")
    assert cancel(queued.id) == [f"experiment {queued.id} has ended as CANCELLED"]
    assert Experiment.objects.get().status == "CANCELLED"


@pytest.mark.parametrize("status", ["STARTING", "RUNNING"])
def test_active_experiment_is_ending(broker: redis.Redis, status: str) -> None:
    active = batches.make_experiment(status=status)
    assert cancel(active.id, "--reason", "the lab closes") == [f"experiment {active.id} is ending as CANCELLED"]
    active.refresh_from_db()
    assert (active.status, active.final_status) == ("FINALIZING", "CANCELLED")
    assert active.reason.startswith("cancelled by ") and active.reason.endswith(": the lab closes")
    assert Event.objects.get(experiment=active, name="cancelled").value == active.reason


def test_ended_experiment_is_left_as_it_is(broker: redis.Redis) -> None:
    ended = batches.make_experiment(status="FINISHED")
    assert cancel(ended.id) == [f"experiment {ended.id} has ended as FINISHED"]
    assert not Event.objects.exists()


def test_interactive_experiment_is_ended(broker: redis.Redis) -> None:
    running = interactive.start("by hand", "tester", {})
    assert cancel(running.id) == [f"experiment {running.id} is ending as CANCELLED"]


def test_all_ids_are_tried_and_each_failure_is_named(broker: redis.Redis) -> None:
    first, last = batches.make_experiment(), batches.make_experiment()
    with pytest.raises(CommandError) as failed:
        cancel(first.id, "202611220000-none", last.id, first.id)
    assert str(failed.value) == "experiment '202611220000-none' does not exist"
    assert set(Experiment.objects.values_list("final_status", flat=True)) == {"CANCELLED"}


@pytest.mark.parametrize("reason", ["", "  ", "a\0b", "x" * 10_001])
def test_invalid_reason_is_refused_before_anything_is_stopped(broker: redis.Redis, reason: str) -> None:
    running = batches.make_experiment()
    with pytest.raises(CommandError, match=r"^--reason: must"):
        cancel(running.id, "--reason", reason)
    running.refresh_from_db()
    assert running.status == "RUNNING"


def test_without_a_broker_it_ends_when_the_broker_is_back() -> None:
    running = batches.make_experiment()
    assert cancel(running.id) == [f"experiment {running.id} is ending as CANCELLED"]
    assert set(running.groups.values_list("state", flat=True)) == {"stop"}
