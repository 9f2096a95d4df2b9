"""`wait()` on requests always ends, or raises the reason; the test writes the workers' messages to Redis."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from django.utils import timezone

from experiments.models import Batch, Shard
from experiments.plans import parse_group
from experiments.services import groups
from experiments.shell.client_group import ClientGroup
from experiments.shell.errors import GroupFailed, NotReady, Superseded
from experiments.shell.future import RequestFuture
from loadgen.protocol.enums import ShardState
from loadgen.protocol.messages import Counters, Gauges
from routing.errors import InvalidInput
from tests.support.fleet import Fleet

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def c(fleet: Fleet) -> ClientGroup:
    """Four clients, two on each of two workers, that take part."""
    fleet.join("pi-1", "pi-2")
    group = groups.spawn(parse_group({"service": "s", "num": 4}), "tester")
    fleet.say(ShardState.READY)
    groups.follow(group.id)
    fleet.say(ShardState.RUNNING)
    return ClientGroup([group.id])


def number_of(future: RequestFuture) -> int:
    (number,) = future._commands.values()
    return number


def test_it_is_done_when_all_shards_have_made_their_requests(fleet: Fleet, c: ClientGroup) -> None:
    future = c.request(5)
    number = number_of(future)
    fleet.say(ShardState.RUNNING, only={"worker__name": "pi-1"}, phase=number, phases_done=[number])
    assert not future.done
    assert repr(future) == f"RequestFuture({c.ids[0]}: under way)"
    fleet.say(ShardState.RUNNING, phase=number, phases_done=[2, number])
    future.wait(5)
    assert future.done
    c.close()
    future.wait(5)


def store_batch(shard: Shard, number: int, rows: int) -> None:
    """A batch of no rows of its own, whose counters say how many the shard had recorded."""
    Batch.objects.create(
        shard=shard,
        attempt=shard.attempt,
        number=number,
        rows=0,
        received_at=timezone.now(),
        counters=asdict(Counters(rows=rows)),
        gauges=asdict(Gauges()),
    )


def test_it_is_done_when_the_requests_are_stored(fleet: Fleet, c: ClientGroup) -> None:
    future = c.request(5)
    number = number_of(future)
    fleet.say(ShardState.RUNNING, phase=number, phases_done=[number], rows=10)
    assert not future.done
    first, second = Shard.objects.order_by("id")
    store_batch(first, 0, 10)
    store_batch(second, 0, 9)
    assert not future.done
    store_batch(second, 2, 10)  # number 1 is under way
    assert not future.done
    store_batch(second, 1, 10)
    assert future.done


def test_waiting_ends_when_the_rows_are_lost_with_a_shard(fleet: Fleet, c: ClientGroup) -> None:
    future = c.request(5)
    number = number_of(future)
    fleet.say(ShardState.RUNNING, phase=number, phases_done=[number], rows=10)
    assert not future.done
    fleet.say(ShardState.LOST, "gone", phase=number, phases_done=[number], rows=10)
    with pytest.raises(GroupFailed, match="was lost before its clients were done: gone"):
        future.wait(5)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_time_out_ends_waiting_and_not_the_requests(c: ClientGroup, timeout: float) -> None:
    future = c.request(5)
    with pytest.raises(NotReady, match=rf"within {timeout:g} s"):
        future.wait(timeout)
    assert not future.done


@pytest.mark.parametrize("timeout", ["soon", float("nan"), float("inf"), -1, True])
def test_an_invalid_time_out_is_refused(c: ClientGroup, timeout: object) -> None:
    with pytest.raises(InvalidInput, match=r"^timeout: "):
        c.request(5).wait(timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("late", [False, True])
def test_requests_replaced_by_a_command_are_superseded(fleet: Fleet, c: ClientGroup, late: bool) -> None:
    first, second = c.request(5), c.request(6)
    number = number_of(second)
    fleet.say(ShardState.RUNNING, phase=number, phases_done=[number])
    if late:
        second.wait(5)
    with pytest.raises(Superseded):
        first.wait(5)
    second.wait(5)


def test_requests_done_before_a_command_are_done(fleet: Fleet, c: ClientGroup) -> None:
    first = c.request(5)
    c.rps(1)
    assert not first.done  # no shard has reported the requests as done, or begun the rate
    number = number_of(first)
    fleet.say(ShardState.RUNNING, phase=number + 1, phases_done=[number])
    first.wait(5)


def test_abort_ends_its_own_requests_alone(fleet: Fleet, c: ClientGroup) -> None:
    first = c.request(5)
    first.abort()
    number = number_of(first) + 1
    fleet.say(ShardState.RUNNING, phase=number)
    with pytest.raises(Superseded):
        first.wait(5)
    second = c.request(5)
    first.abort()
    assert not second.done


@pytest.mark.parametrize("status", [ShardState.LOST, ShardState.FAILED])
def test_lost_clients_end_it(fleet: Fleet, c: ClientGroup, status: str) -> None:
    future = c.request(5)
    fleet.say_of("pi-2", status, "its worker is gone")
    with pytest.raises(GroupFailed, match="was lost before its clients were done: its worker is gone"):
        future.wait(5)


def test_a_closed_group_ends_it(fleet: Fleet, c: ClientGroup) -> None:
    future = c.request(5)
    c.close()
    with pytest.raises(GroupFailed, match="was closed before its clients were done"):
        future.wait(5)
    future.abort()
    with pytest.raises(GroupFailed):
        future.wait(5)


def test_pending_clients_make_the_requests_of_a_new_group(fleet: Fleet) -> None:
    fleet.join("pi-1")
    group = ClientGroup([groups.spawn(parse_group({"service": "s"}), "tester").id])
    future = group.request(5)
    with pytest.raises(NotReady):
        future.wait(0.01)
    fleet.say(ShardState.READY)
    assert not future.done
    number = number_of(future)
    fleet.say(ShardState.RUNNING, phase=number, phases_done=[number])
    future.wait(5)


def test_waiting_for_clients_that_are_never_ready_ends(fleet: Fleet) -> None:
    fleet.join("pi-1")
    group = ClientGroup([groups.spawn(parse_group({"service": "s"}), "tester").id])
    with pytest.raises(NotReady, match=r"within 0\.01 s"):
        group.wait_until_ready(0.01)
    fleet.say(ShardState.FAILED, "the app is broken")
    with pytest.raises(GroupFailed, match="the app is broken"):
        group.wait_until_ready()
