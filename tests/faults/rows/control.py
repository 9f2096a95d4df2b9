"""The controller's processes are killed, or there are too many of them."""

from experiments.models import Experiment
from tests.faults.faults import IDLE, OWN, POSTGRES, fault
from tests.faults.rig import Rig
from tests.faults.stack import DAEMON
from tests.support.waiting import wait_for

CONTROLLER = ("control", "ingest", "beat", "web", DAEMON)
# As the original's users push it, with more clients.
SCRIPT = """spawn worker-a squeezenet 4
sleep 2
rps worker-a squeezenet 5
sleep 5
rps worker-a squeezenet 0
sleep 2
close worker-a squeezenet"""


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


@fault("kill -9 of control, ingest, beat, web and experimentd at once, back after 5 s")
def kill_controller(rig: Rig) -> None:
    kill_and_start(rig, *CONTROLLER)


def kill_and_start(rig: Rig, *names: str) -> None:
    rig.kill(*names)
    rig.pause(5)
    rig.start(*names)


@fault("kill -9 of experimentd at five moments of a script", when=OWN, duration_s=9.0, databases=[POSTGRES])
def kill_daemon(rig: Rig) -> None:
    rig.route("squeezenet")
    pushed = Experiment.objects.filter(instruction_id__isnull=False).values_list("id", flat=True)
    before = set(rig.galileo.read(pushed))

    def experiments() -> set[str]:
        return set(rig.galileo.read(pushed)) - before

    rig.push(SCRIPT)
    _kill_and_go_on(rig)  # before or while it is taken
    wait_for(experiments, "an experiment of the script")
    _kill_and_go_on(rig)
    (rig.experiment_id,) = experiments()
    rig.expect_load([(2, 0), (5, 20), (2, 0)], 4)
    rig.wait_for_status("RUNNING")
    _kill_and_go_on(rig)
    for at_s in (3.0, 6.0):
        rig.until(at_s)
        _kill_and_go_on(rig)
    rig.wait_for_status("FINISHED")
    rig.claim(len(experiments()) == 1, f"the script was carried out {len(experiments())} times")


def _kill_and_go_on(rig: Rig) -> None:
    rig.kill(DAEMON)
    rig.start(DAEMON)


@fault("two control processes and two beats at once", when=IDLE)
def two_of_each(rig: Rig) -> None:
    rig.start_beside("control-2", "control", "-n", "control2@%h")
    rig.start_beside("beat-2", "beat")
    rig.stack.wait_ready("control-2")
