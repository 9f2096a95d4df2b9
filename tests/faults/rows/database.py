"""The database is away."""

from tests.faults.faults import POSTGRES, SQLITE, fault
from tests.faults.rig import Rig

AWAY_S = 30
BLINK_S = 4


@fault("database locked by another process for 30 s", databases=[SQLITE], overtime_s=25)
def locked(rig: Rig) -> None:
    with rig.locked_database():
        rig.pause(AWAY_S)


@fault("database stopped at once, back after 30 s", databases=[POSTGRES], overtime_s=25)
def away(rig: Rig) -> None:
    server = rig.stack.postgres
    assert server is not None
    server.crash()
    rig.pause(AWAY_S)
    server.recover()


def blink(rig: Rig) -> None:
    """Whichever database it is, it is away for a moment."""
    if rig.stack.postgres is None:
        with rig.locked_database():
            rig.pause(BLINK_S)
    else:
        rig.stack.postgres.crash()
        rig.pause(BLINK_S)
        rig.stack.postgres.recover()
