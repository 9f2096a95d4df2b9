"""InteractiveExecutor: executes the commands of an interactive group one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from loadgen.arrivals.pacer import Arrival, ConstantPacer, GapsPacer, first_offset
from loadgen.arrivals.schedule import Schedule
from loadgen.engine.executors.base import Command, CommandProgress, Executor, ExecutorContext
from loadgen.engine.executors.closed import ClosedExecutor
from loadgen.engine.executors.open import OpenExecutor
from loadgen.engine.executors.registry import register
from loadgen.protocol.enums import CommandKind, LoadModel
from loadgen.protocol.messages import GroupCommand

# The duration of a command without a successor: nanoseconds in a float are exact to some tenths until then.
_FOREVER_NS: Final = 1 << 53
_DONE_KEPT: Final = 32  # numbers of commands


@register(LoadModel.INTERACTIVE)
class InteractiveExecutor(Executor):
    """Executes each command by an executor of its own, until all clients are closed.

    A command takes effect at its time, even if requests of the one before are not sent; requests in flight continue.
    The sequence numbers of a command's requests are above those of all commands before it.
    """

    def __init__(self, context: ExecutorContext) -> None:
        self._context = context
        self._arm = context.arm
        self._now_ns = context.pool.now_ns
        self._clients = context.clients  # of this shard, without closed ones
        self._next_sequence = context.first_sequence
        self._max_lateness_ns = round(context.workload.max_lateness_s * 1e9)
        self._coming: deque[Command] = deque()
        self._begun = 0  # number of the command in effect; 0 before the first
        self._current: Executor | None = None  # of the command in effect; None while nothing is sent
        self._done: deque[int] = deque(maxlen=_DONE_KEPT)
        self._started = False

    def start(self, start_ns: int) -> int | None:
        self._started = True
        return self.next_ns

    @property
    def next_ns(self) -> int | None:
        current_ns = self._current.next_ns if self._current is not None else None
        return self._before_next_command(current_ns)

    def turn(self) -> int | None:
        now_ns = self._now_ns()
        is_due = bool(self._coming) and self._coming[0].at_ns <= now_ns
        next_ns: int | None = None
        if self._current is not None and not (is_due and self._leaves_rest(self._current, now_ns)):
            next_ns = self._current.turn()
        if is_due and next_ns is None:
            next_ns = self._execute(self._coming.popleft())
        return self._before_next_command(next_ns)

    def is_over(self) -> bool:
        return self._started and not self._clients

    def on_idle(self) -> None:
        """Notes that the command in effect is done, unless another one follows it."""
        if self._coming or self._current is None or not self._current.is_over():
            return
        if not self._done or self._done[-1] != self._begun:
            self._done.append(self._begun)

    def begin(self, command: Command) -> None:
        newest = self._coming[-1].message.number if self._coming else self._begun
        if command.message.number < newest:
            return
        self._coming.append(command)
        self._end_current_before_next()
        if self._started:
            self._arm(self._now_ns())

    def keep(self, clients: Collection[int]) -> None:
        kept = set(clients)
        if kept.issuperset(self._clients):
            return
        self._clients = [client for client in self._clients if client in kept]
        if not self._clients:
            self._retire_current()
        elif self._current is not None:
            self._current.keep(kept)
            self._arm(self._now_ns())

    @property
    def commands(self) -> CommandProgress:
        return CommandProgress(self._begun, list(self._done))

    # --- One command after the other

    def _execute(self, command: Command) -> int | None:
        """Lets the command take effect; returns when its first request is due."""
        self._retire_current()
        self._begun = command.message.number
        kept = set(command.clients)
        self._clients = [client for client in self._clients if client in kept]
        self._current = self._build(command.message, command.clients)
        if self._current is None:
            return None
        self._current.start(command.at_ns)
        self._end_current_before_next()
        return self._current.next_ns

    def _leaves_rest(self, current: Executor, now_ns: int) -> bool:
        """Returns whether the next command, which is due, takes effect before all earlier requests were sent.

        Without this, gaps of 0 s could not be stopped.
        """
        return not current.sends_overdue or now_ns - self._coming[0].at_ns > self._max_lateness_ns

    def _retire_current(self) -> None:
        if self._current is not None:
            self._next_sequence = max(self._next_sequence, self._current.retire())
        self._current = None

    def _end_current_before_next(self) -> None:
        if self._coming and self._current is not None:
            self._current.end_before(self._coming[0].at_ns)

    def _before_next_command(self, next_ns: int | None) -> int | None:
        """Returns the earlier one of this time and that of the next command."""
        if not self._coming:
            return next_ns
        at_ns = self._coming[0].at_ns
        return at_ns if next_ns is None else min(next_ns, at_ns)

    # --- The executor of a command

    def _build(self, command: GroupCommand, clients: Sequence[int]) -> Executor | None:
        """Returns the executor of a command to these clients of the group; None if it sends nothing."""
        if not self._clients:
            return None
        if command.kind == CommandKind.RATE and command.rate_rps > 0:
            # The pacer deals arrivals to positions 0, 1, …; the indexes have gaps, where clients were closed.
            position = {client: number for number, client in enumerate(clients)}
            own = {position[client]: client for client in self._clients}
            schedule = Schedule([(_FOREVER_NS, command.rate_rps * len(clients))])
            pacer = ConstantPacer(schedule, list(own), len(clients), first_offset(self._context.workload.index))
            return self._open((at_ns, own[number], sequence) for at_ns, number, sequence in pacer)
        if command.kind == CommandKind.GAPS:
            seed = f"{self._context.seed}/{self._context.workload.index}/{command.number}"
            gaps = (command.distribution, command.parameters, command.requests)
            return self._open(GapsPacer(*gaps, self._clients, seed, command.recorded))
        if command.kind == CommandKind.BACK_TO_BACK:
            return self._closed(command)
        return None

    def _open(self, arrivals: Iterable[Arrival]) -> Executor:
        return OpenExecutor(self._context, self._numbered(arrivals, self._next_sequence))

    def _closed(self, command: GroupCommand) -> Executor:
        workload = replace(
            self._context.workload,
            model=LoadModel.CLOSED,
            schedule=[[_FOREVER_NS / 1e9, float(max(self._clients) + 1)]],
            requests_per_client=command.requests,
        )
        return ClosedExecutor(
            replace(
                self._context,
                workload=workload,
                clients=self._clients,
                first_sequence=self._next_sequence,
                arm=self._arm_for_current,
            )
        )

    def _arm_for_current(self, next_ns: int | None) -> None:
        """Arms the timer for the current executor, without delaying the next command."""
        self._arm(None if next_ns is None else self._before_next_command(next_ns))

    def _numbered(self, arrivals: Iterable[Arrival], first_sequence: int) -> Iterator[Arrival]:
        for intended_ns, client, number in arrivals:
            sequence = first_sequence + number
            if sequence >= self._next_sequence:
                self._next_sequence = sequence + 1
            yield intended_ns, client, sequence
