"""Interactive groups, which nobody has planned: what becomes of a rate when those who commanded it are away."""

from tests.faults.check import MAY, NEVER
from tests.faults.faults import COMMANDED, POSTGRES, SQLITE, fault
from tests.faults.rig import CLIENTS, Rig
from tests.faults.rows.control import kill_and_start
from tests.faults.session import SHELL
from tests.faults.stack import DAEMON, PROXIED
from tests.support.waiting import wait_for

# A shard reads its group's renewals once a second, and looks at their age once a second.
LEASE_S, BEFORE_S, AFTER_S = 60.0, 3.0, 3.0
# How long it takes a worker that is back, and then the controller, to hear what they have missed.
HEARS_S = 12.0
# A session is given up 90 s after its last renewal, of which there is one every 5 s.
ABANDONED_S = 105.0
BOUNDED_CLIENTS, BOUNDED_GAP_S, BOUNDED_REQUESTS = 2, 1.0, 67


@fault(
    "kill -9 of web, control, beat and experimentd at once under a rate, back after 5 s",
    when=COMMANDED,
    databases=[SQLITE],
)
def kill_controller_under_rate(rig: Rig) -> None:
    kill_and_start(rig, "web", "control", "beat", DAEMON)


@fault("broker killed and restarted under a rate", when=COMMANDED, duration_s=10.0, databases=[POSTGRES])
def restart_broker_under_rate(rig: Rig) -> None:
    rig.restart_broker(kill=True)


@fault(
    "kill -9 of the shell that holds an experiment; broker away for 30 s meanwhile",
    when=COMMANDED,
    databases=[SQLITE],
    reason="its session ended without a stop",
    events=["stopped"],
    overtime_s=20.0,
)
def kill_session(rig: Rig) -> None:
    rig.kill(SHELL)
    at_s = rig.now_s()
    rig.stop_broker(kill=False)
    rig.pause(30)
    rig.start_broker()
    wait_for(lambda: rig.status() != "RUNNING", "the experiment to be ended", at_s + ABANDONED_S - rig.now_s())
    # It goes on sending, and nobody records it.
    ended_s = rig.now_s()
    rig.expect(ended_s - 2.0, row=MAY)
    rig.claim(ended_s - at_s > 80, f"it was given up after {ended_s - at_s:.0f} s")


@fault(
    "worker cut off under a rate, and under requests that end",
    when=COMMANDED,
    window_s=(1.5, 3.0),
    databases=[POSTGRES],
    events=["shard lost", "shard back", "client group paused"],
    overtime_s=25.0,
    settle_s=20.0,
)
def cut_off_under_rate(rig: Rig) -> None:
    bounded = rig.session.spawn(BOUNDED_CLIENTS)
    last_s = rig.session.request(bounded, BOUNDED_CLIENTS, BOUNDED_REQUESTS, BOUNDED_GAP_S)
    proxy, clients = rig.proxy, rig.session.clients_on(PROXIED)
    proxy.black_hole()
    at_s = rig.now_s()
    rig.expect(at_s + LEASE_S - BEFORE_S, clients=clients, sent=MAY, row=MAY)
    rig.expect(at_s + LEASE_S + AFTER_S, clients=clients, sent=NEVER, row=MAY)
    rig.pause(max(last_s, at_s + LEASE_S + AFTER_S) + 1 - rig.now_s())
    # The controller hears that a part of the group has paused, and lets the others do so, too.
    healed_s, others = rig.now_s(), frozenset(range(CLIENTS)) - clients
    rig.expect(healed_s, clients=others, sent=MAY, row=MAY)
    rig.expect(healed_s + HEARS_S, clients=others, sent=NEVER, row=MAY)
    proxy.heal()
    rig.pause(HEARS_S)
