"""A long load with faults at random: nothing is lost, and nothing grows."""

from __future__ import annotations

import random

import pytest

from tests.faults import meter, table
from tests.faults.conftest import NOTES, OUTCOMES
from tests.faults.faults import DATABASES, SQLITE, Fault
from tests.faults.meter import Meter
from tests.faults.rig import Rig
from tests.faults.row import Outcome, run_row
from tests.faults.rows import broker, control, database, worker

# Of what the rig can do, whatever loses nothing.
HARMLESS = (
    control.kill_control,
    control.kill_ingest,
    control.kill_beat,
    control.kill_web,
    control.kill_controller,
    broker.restart_running,
    broker.kill_running,
    broker.restart_batch_waits,
    broker.restart_again_and_again,
    broker.half_open_running,
    worker.kill_agent,
    worker.cut_off,
    database.blink,
)
# The faults come in this share of the run; then everything has to be at rest, and is measured.
FAULTS_SHARE = 2 / 3
PAUSE_S = 2.0, 8.0
SETTLE_S = 5.0
# How much a process may grow in the last part, by the medians of its thirds.
LIMITS = {"MiB": 2.0, "descriptors": 3.0, "keys": 3.0, "clients": 5.0}


@pytest.mark.timeout(3 * 3600)
def test_nothing_is_lost_and_nothing_grows_under_random_faults(stacks, request):
    minutes = request.config.getoption("--soak-minutes")
    choice = request.config.getoption("--fault-database")
    seed = request.config.getoption("--fault-seed")
    source = random.Random(f"{seed}/soak")
    struck: list[str] = []
    duration_s = minutes * 60.0

    def act(rig: Rig) -> None:
        stack = rig.stack
        with Meter(stack) as measured:
            while rig.now_s() < duration_s * FAULTS_SHARE:
                fault = source.choice(HARMLESS)
                struck.append(fault.__name__)
                fault(rig)
                stack.restore()
                rig.pause(source.uniform(*PAUSE_S))
            rest_s = measured.now_s() + SETTLE_S
            rig.until(duration_s - 1.0)
        tail = [one.since(rest_s) for one in measured.series()]
        flat = [one for one in tail if len(one.values) >= 5]
        request.config.stash[NOTES] += [f"soak of {minutes:g} min, {len(struck)} faults: {', '.join(struck)}"]
        request.config.stash[NOTES] += meter.lines(flat, LIMITS)
        rig.claim(flat, "nothing was at rest for long enough to be measured")
        for one in flat:
            rig.claim(one.growth <= LIMITS[one.unit], f"{one.name}: {one.unit} grew by {one.growth:.1f}")

    soak = Fault("soak", act, duration_s=duration_s, window_s=(1.0, 2.0), overtime_s=20.0)
    for _ in range(1 + request.config.getoption("--fault-retries")):
        stack = stacks.on(choice if choice in DATABASES else SQLITE)
        outcome = Outcome(soak.name, stack.database, seed)
        request.config.stash[OUTCOMES].append(outcome)
        run_row(stack, soak, seed, outcome)
        if not outcome.findings:
            return
        stacks.end()
    raise AssertionError(table.line(outcome))
