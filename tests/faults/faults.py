"""What a row of the table is: a fault, when it strikes, and what is expected of the experiment that it strikes.

@fault("kill -9 of control, back after 5 s")
def kill_control(rig):
    rig.kill("control")
    rig.pause(5)
    rig.start("control")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.rig import Rig

# When a fault's function is called: before the plan is submitted; at the drawn moment of its run; or before, to submit
# the plan itself with `rig.begin()`; or at the drawn moment of an interactive load, which an experiment records.
IDLE, RUNNING, OWN, COMMANDED = "idle", "running", "own", "commanded"

SQLITE, POSTGRES = "sqlite", "postgres"
DATABASES = (SQLITE, POSTGRES)


@dataclass(frozen=True)
class Fault:
    """A fault and its expectations.

    Attributes:
        name: the line of the table.
        act: brings the fault about, and ends it where it is to end.
        window_s: the moment is drawn from here, in seconds since the start of the load.
        configuration: keys of the plan's `configuration`.
        ends: the status that the experiment ends with, and
        reason: a regular expression that must be found in its reason.
        overtime_s: how long after the plan's end, or after the fault's if that is later, the experiment may end.
        events: names of events that must be on the timeline.
        settle_s: how long after the end the account may take to close.
    """

    name: str
    act: Callable[[Rig], None]
    when: str = RUNNING
    duration_s: float = 14.0
    window_s: tuple[float, float] = (1.5, 6.0)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    ends: str = "FINISHED"
    reason: str = "^$"
    overtime_s: float = 8.0
    events: Sequence[str] = ()
    settle_s: float = 10.0
    databases: Sequence[str] = DATABASES

    @property
    def slug(self) -> str:
        return self.act.__name__


FAULTS: list[Fault] = []


def fault(name: str, **expected: Any) -> Callable[[Callable[[Rig], None]], Callable[[Rig], None]]:
    """Makes a function a row of the table."""

    def add(act: Callable[[Rig], None]) -> Callable[[Rig], None]:
        FAULTS.append(Fault(name, act, **expected))
        return act

    return add
