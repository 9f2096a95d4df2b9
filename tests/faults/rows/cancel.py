"""An experiment is cancelled in each of its phases."""

from experiments.models import Experiment
from tests.faults.check import MAY, NEVER
from tests.faults.faults import OWN, fault
from tests.faults.rig import Rig

# From the cancel to the last request.
OBEYED_S = 1.0
# From the broker's return to the last request: control has to come back, too.
HEARD_S = 6.0
CANCELLED = {"ends": "CANCELLED", "reason": "cancelled by admin"}


@fault("cancel of a QUEUED one while another runs")
def cancel_queued(rig: Rig) -> None:
    queued = rig.galileo.web.begin(rig.plan())
    rig.claim(rig.galileo.status(queued) == "QUEUED", "it did not wait for the running one")
    rig.claim(rig.galileo.web.delete(queued) == 200, "it was not removed at once")
    rig.wait_for_status("FINISHED")
    rig.claim(not rig.galileo.read(Experiment.objects.filter(id=queued)), "it is still there")
    rig.claim(not rig.requests_of(queued), "it was run")


@fault("cancel while STARTING", when=OWN, **CANCELLED)
def cancel_starting(rig: Rig) -> None:
    rig.begin()
    rig.wait_for_status("STARTING")
    rig.expect(0, sent=NEVER)
    cancel(rig)
    rig.claim(not rig.start_s(), "it was RUNNING already")


@fault("cancel while RUNNING", **CANCELLED)
def cancel_running(rig: Rig) -> None:
    at_s = rig.now_s()
    rig.expect(at_s, sent=MAY)
    rig.expect(at_s + OBEYED_S, sent=NEVER)
    cancel(rig)


@fault("cancel while FINALIZING", window_s=(10, 12))
def cancel_finalizing(rig: Rig) -> None:
    rig.kill("ingest")
    rig.wait_for_status("FINALIZING")
    cancel(rig)
    rig.claim(rig.status() == "FINALIZING", "it did not go on finalizing")
    rig.start("ingest")


@fault("cancel while the broker is away", duration_s=20.0, window_s=(1.5, 3), **CANCELLED)
def cancel_without_broker(rig: Rig) -> None:
    rig.stop_broker(kill=False)
    rig.pause(1)
    cancel(rig)
    rig.pause(5)
    rig.start_broker()
    at_s = rig.now_s()
    rig.expect(at_s, sent=MAY)
    rig.expect(at_s + HEARD_S, sent=NEVER)


def cancel(rig: Rig) -> None:
    status = rig.galileo.web.cancel(rig.experiment_id)
    rig.claim(status == 202, f"the cancel was answered with {status}")
