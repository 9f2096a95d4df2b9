"""A worker or one of its processes is killed, loses its way to the broker, or has a double."""

import subprocess

from tests.faults.check import IF_SENT, MAY, NEVER
from tests.faults.faults import IDLE, fault
from tests.faults.rig import Rig
from tests.faults.stack import PROXIED

OTHER = "worker-a"

# A worker whose main process was killed is drained by its agent.
DRAINED_S = 3.0
# What was sealed, but not forwarded, stays in the spool of a worker that does not come back.
UNFORWARDED_S = 1.2

CUT_OFF_S = 15.0
# A lease lives 6 s since its last renewal, which may have been 2 s ago; looks must miss it, and the stop be heard.
NOTICED_S = 4.0, 9.0
# Then the share is placed anew, and another process gets ready for it.
REPLACED_S = 14.0
# How long it takes a worker that is back to hear what it has missed.
HEARS_S = 4.0


@fault("kill -9 of a shard's process", events=["shard lost"])
def kill_shard(rig: Rig) -> None:
    rig.kill_shard(OTHER)


@fault("kill -9 of an agent")
def kill_agent(rig: Rig) -> None:
    rig.agent_of(OTHER).kill()


@fault("kill -9 of a worker's main process, back after 5 s", events=["shard lost"])
def kill_main(rig: Rig) -> None:
    _, clients = rig.shard_on(OTHER)
    rig.kill(OTHER)
    rig.expect(rig.now_s(), clients=clients, sent=MAY)
    rig.expect(rig.now_s() + DRAINED_S, clients=clients, sent=NEVER)
    rig.pause(5)
    rig.start(OTHER)


@fault("kill -9 of a whole worker, back after 5 s", events=["shard lost"])
def kill_worker(rig: Rig) -> None:
    rig.kill_worker(OTHER)
    rig.pause(5)
    rig.start(OTHER)


@fault("kill -9 of a whole worker, never back", events=["shard lost"], overtime_s=10)
def kill_worker_for_good(rig: Rig) -> None:
    rig.kill_worker(OTHER, unsealed_s=UNFORWARDED_S)


@fault("worker cut off for 15 s, continue", duration_s=26.0, window_s=(2, 4), events=["shard lost", "shard back"])
def cut_off_continue(rig: Rig) -> None:
    cut_off(rig)


@fault(
    "worker cut off for 15 s, replace",
    duration_s=26.0,
    window_s=(2, 4),
    configuration={"on_worker_loss": "replace"},
    events=["shard lost"],
)
def cut_off_replace(rig: Rig) -> None:
    _, clients = rig.shard_on(PROXIED)
    rig.expect(rig.now_s(), rig.now_s() + REPLACED_S, clients=clients, sent=MAY, row=IF_SENT)
    cut_off(rig)


@fault(
    "worker cut off for 15 s, fail",
    duration_s=26.0,
    window_s=(2, 4),
    configuration={"on_worker_loss": "fail"},
    events=["shard lost"],
    ends="FAILED",
    reason="was lost, and on_worker_loss is fail",
    settle_s=20,
)
def cut_off_fail(rig: Rig) -> None:
    at_s, (_, clients) = rig.now_s(), rig.shard_on(PROXIED)
    rig.expect(at_s + NOTICED_S[0], sent=MAY)
    rig.expect(at_s + NOTICED_S[1], sent=NEVER)
    # The one that is cut off hears of it when it is back.
    rig.expect(at_s + NOTICED_S[1], clients=clients, sent=MAY)
    rig.expect(at_s + CUT_OFF_S + HEARS_S, clients=clients, sent=NEVER)
    cut_off(rig)


def cut_off(rig: Rig) -> None:
    proxy = rig.proxy
    proxy.black_hole()
    rig.pause(CUT_OFF_S)
    proxy.heal()


@fault("a second worker with the name of a live one")
def double(rig: Rig) -> None:
    spec = rig.stack.child(OTHER).spec
    environment = {**spec.environment, "galileo_spool_dir": str(rig.galileo.spool("double"))}
    done = subprocess.run(list(spec.command), env=environment, capture_output=True, text=True, timeout=60)
    rig.claim(done.returncode == 1, f"it exited with {done.returncode}, not 1")
    rig.claim(f"a live worker has the name '{OTHER}' already" in done.stderr, f"it did not say why: {done.stderr!r}")


@fault("kill -9 of a whole worker, back within a second", when=IDLE)
def taken_over(rig: Rig) -> None:
    rig.kill_family(OTHER)
    rig.start(OTHER)
    rig.stack.wait_ready(OTHER)
