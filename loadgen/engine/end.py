"""End: how a load ended, and why."""

from __future__ import annotations

from dataclasses import dataclass

from loadgen.protocol.enums import ShardState


@dataclass(frozen=True, eq=False)
class End:
    """How a load ended; two ends are the same one only if they are the same object.

    Attributes:
        state: one of enums.ENDS.
        reason: a sentence for people; "" when the schedule ran to its end.
    """

    state: ShardState
    reason: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether the load broke off before its end, so that the rest of the plan may be another attempt's."""
        return self.state is ShardState.LOST


FINISHED = End(ShardState.FINISHED)
STOPPED = End(ShardState.STOPPED, "stopped")
CLOSED = End(ShardState.FAILED, "closed")


def failed(reason: str) -> End:
    """Returns the end of a load that failed, for a reason that may hold an app's own words."""
    return End(ShardState.FAILED, reason.encode(errors="backslashreplace").decode())
