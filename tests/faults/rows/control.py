"""The controller's processes are killed, or there are too many of them."""

from tests.faults.faults import IDLE, fault
from tests.faults.rig import Rig

CONTROLLER = ("control", "ingest", "beat", "web")


@fault("kill -9 of control, back after 5 s")
def kill_control(rig: Rig) -> None:
    kill_and_start(rig, "control")


@fault("kill -9 of ingest, back after 5 s")
def kill_ingest(rig: Rig) -> None:
    kill_and_start(rig, "ingest")


@fault("kill -9 of beat, back after 5 s")
def kill_beat(rig: Rig) -> None:
    kill_and_start(rig, "beat")


@fault("kill -9 of web, back after 5 s")
def kill_web(rig: Rig) -> None:
    kill_and_start(rig, "web")


@fault("kill -9 of control, ingest, beat and web at once, back after 5 s")
def kill_controller(rig: Rig) -> None:
    kill_and_start(rig, *CONTROLLER)


def kill_and_start(rig: Rig, *names: str) -> None:
    rig.kill(*names)
    rig.pause(5)
    rig.start(*names)


@fault("two control processes and two beats at once", when=IDLE)
def two_of_each(rig: Rig) -> None:
    rig.start_beside("control-2", "control", "-n", "control2@%h")
    rig.start_beside("beat-2", "beat")
    rig.stack.wait_ready("control-2")
