"""InteractiveCommands with a fake clock: when a command takes effect, and when an unbounded load pauses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from loadgen.engine.end import End
from loadgen.engine.executors.base import CommandProgress
from loadgen.protocol.enums import DesiredState, ShardState
from loadgen.protocol.keys import GROUP_LEASE_S
from loadgen.protocol.messages import ClockSample, Counters, GroupCommand, GroupDocument, ShardStatus
from loadgen.shard.commands import AHEAD_NS, CATCH_UP_NS, FORGOTTEN, InteractiveCommands
from loadgen.shard.status import StatusWriter
from tests.support.fake_clock import FakeClock
from tests.support.shards import document_of

OFFSET_NS = 7_000_000_000
SAMPLE = ClockSample(OFFSET_NS, 100)
SECOND_NS = 1_000_000_000


class Engine:
    def __init__(self) -> None:
        self.begun: list[tuple[GroupCommand, int, list[int]]] = []
        self.kept: list[list[int]] = []
        self.commands = CommandProgress(0, [])
        self.counters = Counters()

    def begin_command(self, message: GroupCommand, at_ns: int, clients: list[int]) -> None:
        self.begun.append((message, at_ns, clients))

    def keep_clients(self, clients: list[int]) -> None:
        self.kept.append(clients)


class Fence:
    def __init__(self) -> None:
        self.written: list[ShardStatus] = []

    async def write_status(self, status: ShardStatus) -> bool:
        self.written.append(status)
        return True


class Shard:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.engine = Engine()
        self.fence = Fence()
        self.ends: list[End] = []
        self.desired = SimpleNamespace(missing_since_ns=None, renewed_ns=self.clock.now_ns)
        status = ShardStatus(1, 1, "pi", 1, ShardState.RUNNING)
        self.status = StatusWriter(cast(Any, self.fence), status, self.clock)
        self.commands = InteractiveCommands(
            self.engine, cast(Any, self.desired), self.status, self.ends.append, self.clock
        )

    def take(self, command: GroupCommand, active: list[list[int]] | None = None) -> None:
        self.commands.take(document(command, active), SAMPLE)

    def command(self, ahead_ns: int = 0, number: int = 1, rate_rps: float = 5.0) -> GroupCommand:
        """A command for a time that is so far ahead."""
        return GroupCommand(number, self.clock.now_ns + OFFSET_NS + ahead_ns, rate_rps=rate_rps)


def document(command: GroupCommand | None, active: list[list[int]] | None = None) -> GroupDocument:
    group = document_of("g", state=DesiredState.RUN, phase=command, active=[[0, 3]] if active is None else active)
    return replace(group, workload=replace(group.workload, schedule=[]))


@pytest.mark.parametrize("ahead_ns", [1 - CATCH_UP_NS, 0, AHEAD_NS - 1])
def test_command_takes_effect_at_its_time(ahead_ns: int) -> None:
    shard = Shard()
    command = shard.command(ahead_ns)
    shard.take(command)
    assert shard.engine.begun == [(command, shard.clock.now_ns + ahead_ns, [0, 1, 2])]


@pytest.mark.parametrize("ahead_ns", [-CATCH_UP_NS, AHEAD_NS])
def test_command_of_a_time_far_away_takes_effect_at_once(ahead_ns: int) -> None:
    shard = Shard()
    shard.take(shard.command(ahead_ns))
    assert [at_ns for _, at_ns, _ in shard.engine.begun] == [shard.clock.now_ns]


def test_same_command_with_fewer_clients_closes_the_others() -> None:
    shard = Shard()
    command = shard.command()
    shard.take(command)
    shard.take(command, [[0, 1], [2, 3]])
    assert (len(shard.engine.begun), shard.engine.kept) == (1, [[0, 2]])


def test_document_without_a_command_or_a_sample_changes_nothing() -> None:
    shard = Shard()
    shard.commands.take(document(None), SAMPLE)
    shard.commands.take(document(shard.command()), None)
    assert (shard.engine.begun, shard.engine.kept) == ([], [])


def test_unbounded_load_pauses_without_its_controller() -> None:
    shard = Shard()
    command = shard.command(rate_rps=5.0)
    shard.take(command)
    shard.clock.run(shard.commands.watch_controller(), GROUP_LEASE_S - 1)
    assert len(shard.engine.begun) == 1
    shard.clock.run(shard.commands.watch_controller(), 5)
    pause = GroupCommand(command.number, command.start_broker_ns)
    assert [begun for begun, _, _ in shard.engine.begun] == [command, pause]
    assert not pause.is_unbounded
    assert [status.is_deserted for status in shard.fence.written] == [True]
    assert shard.ends == []


def test_renewed_load_goes_on() -> None:
    shard = Shard()
    shard.take(shard.command())
    for _ in range(10):
        shard.clock.run(shard.commands.watch_controller(), GROUP_LEASE_S - 1)
        shard.desired.renewed_ns = shard.clock.now_ns
    assert len(shard.engine.begun) == 1


def test_bounded_load_goes_on_without_its_controller() -> None:
    shard = Shard()
    shard.take(shard.command(rate_rps=0.0))
    shard.clock.run(shard.commands.watch_controller(), 3 * GROUP_LEASE_S)
    assert (len(shard.engine.begun), shard.fence.written) == (1, [])


def test_command_after_a_pause_ends_the_pause() -> None:
    shard = Shard()
    shard.take(shard.command())
    shard.clock.run(shard.commands.watch_controller(), GROUP_LEASE_S + 1)
    shard.desired.renewed_ns = shard.clock.now_ns
    shard.take(shard.command(number=2))
    shard.engine.commands = CommandProgress(2, [])
    asyncio.run(shard.status.set_commands(shard.engine.commands, 0))
    assert (shard.status.status.phase, shard.status.status.is_deserted) == (2, False)
    shard.clock.run(shard.commands.watch_controller(), GROUP_LEASE_S - 1)
    assert [begun.number for begun, _, _ in shard.engine.begun] == [1, 1, 2]


def test_shard_whose_group_was_forgotten_ends() -> None:
    shard = Shard()
    shard.take(shard.command())
    shard.desired.missing_since_ns = shard.clock.now_ns
    shard.desired.renewed_ns += 10 * GROUP_LEASE_S * SECOND_NS
    shard.clock.run(shard.commands.watch_controller(), GROUP_LEASE_S - 1)
    assert shard.ends == []
    shard.clock.run(shard.commands.watch_controller(), 1)
    assert shard.ends == [FORGOTTEN]


def test_progress_is_written_when_it_changes() -> None:
    shard = Shard()
    shard.engine.commands = CommandProgress(3, [2])
    shard.clock.run(shard.commands.report(), 5)
    assert [(status.phase, status.phases_done) for status in shard.fence.written] == [(3, [2])]


def test_progress_has_the_rows_of_what_is_done() -> None:
    shard = Shard()
    shard.engine.commands, shard.engine.counters = CommandProgress(3, [2, 3]), Counters(rows=12)
    shard.clock.run(shard.commands.report(), 5)
    assert [status.rows for status in shard.fence.written] == [12]
