"""A client group, or an experiment, that fails in each pass of the reconciler does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.db.models import F

from experiments.models import ClientGroup, Event, Experiment, InteractiveGroup, Shard, Workload
from experiments.plans import parse_group
from experiments.services import desired, ending, groups, interactive
from experiments.services.reconcile import reconcile
from loadgen.protocol import keys
from loadgen.protocol.codec import from_json
from loadgen.protocol.enums import ShardState
from loadgen.protocol.messages import GroupDocument
from tests.support import batches
from tests.support.fleet import Fleet

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def three(fleet: Fleet) -> list[ClientGroup]:
    """Open groups whose shards are ready, but which no pass has followed yet."""
    fleet.join("pi-1", slots=16)
    made = [groups.spawn(parse_group({"service": service}), "tester") for service in ("a", "b", "c")]
    fleet.say(ShardState.READY)
    return made


def new_version(group: ClientGroup) -> None:
    """As a command makes it: the document in Redis is behind the row."""
    ClientGroup.objects.filter(id=group.id).update(version=F("version") + 1)


def break_workload(broker: redis.Redis, group: ClientGroup) -> None:
    Workload.objects.filter(id=group.workload_id).update(spec={"nonsense": 1})
    new_version(group)


def break_command(broker: redis.Redis, group: ClientGroup) -> None:
    InteractiveGroup.objects.filter(group=group).update(command_fields={"nonsense": 1})
    new_version(group)


def break_key(broker: redis.Redis, group: ClientGroup) -> None:
    broker.delete(keys.group_key(group.id))
    broker.set(keys.group_key(group.id), "of another type")


BREAK: dict[str, Callable[[redis.Redis, ClientGroup], None]] = {
    "workload": break_workload, "command": break_command, "key": break_key,
}  # fmt: skip


def document(broker: redis.Redis, group: ClientGroup) -> GroupDocument:
    return from_json(GroupDocument, broker.hget(keys.group_key(group.id), "document"))


@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("how", BREAK)
def test_other_groups_are_renewed_and_followed(
    broker: redis.Redis, three: list[ClientGroup], how: str, broken: int, caplog: pytest.LogCaptureFixture
) -> None:
    bad = three.pop(broken)
    BREAK[how](broker, bad)
    with caplog.at_level(logging.ERROR):
        reconcile()
        reconcile()
    for group in three:
        group.refresh_from_db()
        assert group.total_clients == 1  # its clients take part
        assert document(broker, group).active == [[0, 1]]
        assert int(broker.hget(keys.group_key(group.id), "renewals")) == 2
    assert f"client group {bad.id}" in caplog.text
    assert not any(f"client group {group.id}" in caplog.text for group in three)


@pytest.mark.parametrize("how", BREAK)
def test_experiments_go_on_beside_a_failing_group(
    broker: redis.Redis, three: list[ClientGroup], how: str, make_experiment: Callable[..., Experiment]
) -> None:
    BREAK[how](broker, three[0])
    experiment = make_experiment()
    reconcile()
    experiment.refresh_from_db()
    assert experiment.status == "STARTING"
    assert experiment.groups.count() == 1


@pytest.mark.parametrize("how", BREAK)
@pytest.mark.parametrize("end", [ShardState.STOPPED, ShardState.LOST])
def test_failing_group_can_be_closed(
    broker: redis.Redis, fleet: Fleet, three: list[ClientGroup], how: str, end: ShardState
) -> None:
    group = three[1]
    BREAK[how](broker, group)
    groups.close(group.id)
    group.refresh_from_db()
    assert group.state == "stop"
    fleet.say(end, only={"group": group})
    reconcile()
    part = InteractiveGroup.objects.get(group=group)
    assert part.ended_at is not None
    assert Shard.objects.not_ended().filter(group=group).count() == 0  # its slots are free
    assert not broker.exists(keys.group_key(group.id))


@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("how", BREAK)
def test_other_groups_are_stopped_together_with_it(
    broker: redis.Redis, three: list[ClientGroup], how: str, broken: int
) -> None:
    ids = [group.id for group in three]
    BREAK[how](broker, three.pop(broken))
    desired.stop_now(ids)
    assert set(ClientGroup.objects.values_list("state", flat=True)) == {"stop"}
    assert {document(broker, group).state for group in three} == {"stop"}


@pytest.mark.parametrize("broken", [0, 1])
def test_cancel_stops_every_group_of_an_experiment(broker: redis.Redis, broken: int) -> None:
    experiment = batches.make_experiment([[2.0, 10.0]], [[2.0, 10.0]])
    both = list(experiment.groups.order_by("id"))
    break_workload(broker, both.pop(broken))
    ending.cancel(experiment.id, "enough")
    experiment.refresh_from_db()
    assert (experiment.status, experiment.final_status) == ("FINALIZING", "CANCELLED")
    assert set(experiment.groups.values_list("state", flat=True)) == {"stop"}
    assert document(broker, both[0]).state == "stop"


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_interactive_experiment_records_the_other_groups(
    broker: redis.Redis, three: list[ClientGroup], broken: int
) -> None:
    bad = three.pop(broken)
    Workload.objects.filter(id=bad.workload_id).update(spec=["nonsense"])
    experiment = interactive.start("by hand", "tester", {})
    assert {document(broker, group).experiment_id for group in three} == {experiment.id}
    assert experiment.workloads.count() == 2
    marks = Event.objects.filter(experiment=experiment, name="client group not recorded")
    assert [mark.value for mark in marks] == [bad.id]
    interactive.stop(experiment.id)
    assert {document(broker, group).experiment_id for group in three} == {None}


def test_experiment_that_fails_in_each_step_does_not_stop_others(broker: redis.Redis, three: list[ClientGroup]) -> None:
    experiment = batches.make_experiment()
    Workload.objects.filter(experiment=experiment).update(spec={"nonsense": 1})
    reconcile()
    for group in three:
        group.refresh_from_db()
        assert group.total_clients == 1


def test_keys_of_an_experiment_that_fails_do_not_keep_others(
    broker: redis.Redis, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (batches.make_experiment(status="FINISHED") for _ in range(2))
    real: Any = ending.clear_redis

    def clear(experiment: Experiment) -> None:
        if experiment.id == first.id:
            raise ValueError("its rows are damaged")
        real(experiment)

    monkeypatch.setattr(ending, "clear_redis", clear)
    assert [each.id for each in ending.uncleared()] == [first.id, second.id]
    reconcile()
    assert [each.id for each in ending.uncleared()] == [first.id]
