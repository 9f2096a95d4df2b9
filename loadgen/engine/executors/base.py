"""Executor: the interface of the classes that each send the requests of one load model; and their context."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from loadgen.engine.http.pool import Pool
from loadgen.engine.http.sources import RequestSource
from loadgen.engine.recorder import Recorder
from loadgen.engine.routes import Routes
from loadgen.protocol.messages import GroupCommand, WorkloadSpec

# Arrivals per turn of the event loop: when many are due, responses are read in between.
ARRIVALS_PER_TURN: Final = 32
# A slow client app, or slow writes, must not delay the reading of responses: they would look like a slow target.
TURN_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ExecutorContext:
    """The parts that an executor is built from.

    Attributes:
        workload: of the client group.
        clients: indexes of this shard's clients.
        seed: of the group's random sources.
        total_clients: of the group, over all shards.
        first_sequence: the lowest number of this attempt, for executors that number the requests themselves.
        source: makes the clients' requests.
        routes: choose the host of each request.
        pool: the connections.
        recorder: takes the rows of arrivals that are not sent.
        arm: sets the time, by the monotonic clock, at which `turn` is called; None: not until `arm` is called again.
        on_error: ends the load because of an error that `turn` cannot raise.
    """

    workload: WorkloadSpec
    clients: Sequence[int]
    seed: int
    total_clients: int
    first_sequence: int
    source: RequestSource
    routes: Routes
    pool: Pool
    recorder: Recorder
    arm: Callable[[int | None], None]
    on_error: Callable[[Exception], None]


class Command(NamedTuple):
    """A command to an interactive group, as a shard executes it.

    Attributes:
        at_ns: when it takes effect, by the monotonic clock.
        message: the command of the clients from then on.
        clients: indexes of the group's clients from then on, in order; the others are closed for good.
    """

    at_ns: int
    message: GroupCommand
    clients: Sequence[int]


class CommandProgress(NamedTuple):
    """Numbers of commands.

    Attributes:
        begun: the command in effect; 0 before the first.
        done: the newest commands all of whose requests had ended before the next command began.
    """

    begun: int
    done: list[int]


class Executor(Protocol):
    """Sends the requests of one load model when they are due, and records the arrivals that are not sent.

    An executor's module registers a builder with `registry.register`. Methods with a body are optional. All methods run
    in the event loop's thread. Times are of the monotonic clock unless noted; the schedule's zero is the time given to
    `start`.

    Attributes:
        duration_ns: the load does not end sooner than this after the schedule's zero.
        sends_overdue: whether requests intended before the next command are sent although that command is due.
    """

    duration_ns: int = 0
    sends_overdue: bool = False

    # --- The run

    def prepare(self) -> None:
        """Does slow work before the start; optional, as the other methods do it when needed."""
        return

    def skip(self, before_ns: int, limit: int) -> bool:
        """Skips and counts at most `limit` arrivals intended before `before_ns` (since the schedule's zero).

        For an attempt that takes over, before `start`. Ends after about TURN_NS, with one arrival at least. Returns
        whether there may be more of them.
        """
        return False

    def start(self, start_ns: int) -> int | None:
        """Sets the schedule's zero; returns when to take the first turn, None for not until `arm` is called."""

    @property
    def next_ns(self) -> int | None:
        """When the next turn is due; None when no request is planned."""

    def turn(self) -> int | None:
        """Sends what is due; returns when to take the next turn, None when no request is planned.

        Raises:
            AppError: the request source failed; the arrival that was to be sent is recorded as CUT.
        """

    def is_over(self) -> bool:
        """Returns whether nothing more will be sent once the requests in flight have ended."""

    def cut(self, limit: int) -> bool:
        """Records at most `limit` of the remaining arrivals as CUT; returns whether there are more."""
        return False

    def on_idle(self) -> None:
        """Called in each tick of the engine in which no request is in flight."""
        return

    # --- As the executor of one command of an interactive load

    def end_before(self, end_ns: int) -> None:
        """Drops, without a row, the arrivals intended at `end_ns` or later. Called after `start`."""
        return

    def keep(self, clients: Collection[int]) -> None:
        """Closes all clients but these, without a row for their remaining arrivals."""

    def retire(self) -> int:
        """Stops sending; returns a sequence number above all that the executor assigned, 0 if it assigned none."""
        return 0

    # --- Interactive loads

    def begin(self, command: Command) -> None:
        """Adds a command behind the earlier ones; an older one is ignored.

        Raises:
            RuntimeError: the load model takes no commands.
        """
        raise RuntimeError(f"{type(self).__name__} takes no commands; only an interactive load does")

    @property
    def commands(self) -> CommandProgress:
        """How far the commands have been executed."""
        return CommandProgress(0, [])
