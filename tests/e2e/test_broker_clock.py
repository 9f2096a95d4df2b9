"""The broker's wall clock steps: no run ends, no row is lost, no worker leaves, and the run shows it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.test_load import assert_account_closes, routes
from tests.support.galileo import Galileo
from tests.support.plans import plan_data
from tests.support.stepped_clock import SteppedClock
from tests.support.waiting import wait_for

pytestmark = pytest.mark.long

STEP_S = 90
# No decision about an absence takes longer: an expired heartbeat or lease, and the wait for the next one.
DECIDED_S = 12.0

STATUSES = "SELECT name, status FROM experiments_worker ORDER BY name"
STEPS = "SELECT value FROM experiments_event WHERE experiment_id = ? AND name = 'broker clock stepped'"
PLANNED_EVENTS = "SELECT name FROM experiments_event WHERE experiment_id = ? AND key LIKE 'plan:%' ORDER BY key"
SHARDS = """
    SELECT s.status, s.attempt FROM experiments_shard s JOIN experiments_clientgroup g ON g.id = s.group_id
    WHERE g.experiment_id = ?
"""


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> SteppedClock:
    return SteppedClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def galileo(tmp_path_factory: pytest.TempPathFactory, clock: SteppedClock) -> Iterator[Galileo]:
    workers = {"worker-a": "A", "worker-b": "B"}
    with Galileo(tmp_path_factory.mktemp("stepped"), workers, broker_clock=clock) as running:
        yield running


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, clock: SteppedClock) -> Iterator[Galileo]:
    """One machine for all processes: their clocks step together."""
    directory = tmp_path_factory.mktemp("machine")
    workers = {"worker-a": "A", "worker-b": "B"}
    with Galileo(directory, workers, broker_clock=clock, variables=clock.environment, with_web=True) as running:
        yield running


def plan_for(target, **fields):
    values = {"duration": "16s", "interval": "16s", "ticks": [40], "request_timeout": "2s", "clients_per_host": 4}
    return plan_data(**{**values, "routing": routes(target.host), **fields})


@pytest.mark.parametrize("on_worker_loss", ["continue", "replace", "fail"])
@pytest.mark.parametrize("step_s", [STEP_S, -STEP_S])
def test_step_during_a_run_loses_nothing_and_is_on_record(galileo, clock, target, step_s, on_worker_loss):
    experiment_id = galileo.begin(plan_for(target, on_worker_loss=on_worker_loss))
    galileo.wait_for_status(experiment_id, "RUNNING")
    time.sleep(6)
    clock.step(step_s)
    stepped_s = time.monotonic()
    status = galileo.wait_for_status(experiment_id, "FINISHED", "FAILED", "CANCELLED")
    assert status == "FINISHED", galileo.experiment(experiment_id).reason + galileo.log_tails()
    assert time.monotonic() - stepped_s < 50
    assert set(galileo.query(SHARDS, experiment_id)) == {("FINISHED", 1)}
    rows = assert_account_closes(galileo, experiment_id, target)
    assert len(rows) == 40 * 16
    report = galileo.report(experiment_id, check=False)
    steps = galileo.query(STEPS, experiment_id)
    assert len(steps) == 1
    assert abs(float(steps[0][0].split()[1]) - step_s) < 0.5
    assert report["summary"]["verdict"]["status"] != "VALID"
    assert any(reason["sentence"].startswith("clock drift") for reason in report["summary"]["verdict"]["reasons"])


@pytest.mark.parametrize("step_s", [STEP_S, -STEP_S])
def test_next_attempt_of_the_only_shard_knows_the_step(galileo, clock, target, step_s):
    plan = plan_for(target, on_worker_loss="replace", worker_labels={"zone": "A"}, duration="20s", interval="20s")
    experiment_id = galileo.begin(plan)
    galileo.wait_for_status(experiment_id, "RUNNING")
    wait_for(lambda: len(target.ids(experiment_id)) > 40, "the load")
    clock.step(step_s)
    wait_for(lambda: galileo.query(STEPS, experiment_id), "the step on the timeline")
    (shard,) = galileo.shard_processes("worker-a")
    before = len(target.ids(experiment_id))
    shard.kill()
    status = galileo.wait_for_status(experiment_id, "FINISHED", "FAILED", "CANCELLED")
    assert status == "FINISHED", galileo.experiment(experiment_id).reason + galileo.log_tails()
    assert galileo.query(SHARDS, experiment_id) == [("FINISHED", 2)]
    logged = Counter(target.ids(experiment_id))
    assert set(logged.values()) == {1}  # no arrival was sent by both
    # The load pauses for a few seconds, and then lasts to the plan's end.
    assert before + 40 < len(logged) < 40 * 20
    assert len(galileo.query(STEPS, experiment_id)) == 1


@pytest.mark.parametrize("step_s", [STEP_S, -STEP_S])
def test_step_keeps_idle_workers_and_delays_no_start(galileo, clock, target, step_s):
    clock.step(step_s)
    until_s = time.monotonic() + DECIDED_S
    while time.monotonic() < until_s:
        assert galileo.query(STATUSES) == [("worker-a", "READY"), ("worker-b", "READY")]
        time.sleep(0.5)
    clock.step(-step_s)
    submitted_s = time.monotonic()
    done = galileo.run(plan_for(target, duration="2s", interval="2s"))
    assert done["status"] == "FINISHED"
    assert time.monotonic() - submitted_s < 40
    assert len(assert_account_closes(galileo, done["id"], target)) == 40 * 2


@pytest.mark.parametrize("status", ["STARTING", "RUNNING"])
@pytest.mark.parametrize("step_s", [STEP_S, -STEP_S])
def test_step_of_a_whole_machine_ends_no_run_and_delays_no_end(machine, clock, target, step_s, status):
    planned = [{"at": 1, "name": "early"}, {"at": 7, "name": "late"}]
    experiment_id = machine.begin(plan_for(target, duration="8s", interval="8s", events=planned))
    machine.wait_for_status(experiment_id, status)
    if status == "RUNNING":
        time.sleep(4)
    clock.step(step_s)
    stepped_s = time.monotonic()
    status = machine.wait_for_status(experiment_id, "FINISHED", "FAILED", "CANCELLED")
    assert status == "FINISHED", machine.experiment(experiment_id).reason + machine.log_tails()
    assert time.monotonic() - stepped_s < 50
    assert len(assert_account_closes(machine, experiment_id, target)) == 40 * 8
    points = machine.web.request("GET", f"/experiments/{experiment_id}/series").json()["points"]
    assert sum(point["arrivals"] for point in points) == 40 * 8
    assert 8 <= len(points) <= 10
    events = machine.query(PLANNED_EVENTS, experiment_id)
    assert [name for (name,) in events] == ["early", "late"]


INTERACTIVE = """
import time
exp.start('stepped')
c = g.spawn('live', 4); c.rps(20)
time.sleep(12)
c.close()
exp.stop()
"""


@pytest.mark.parametrize("step_s", [STEP_S, -STEP_S])
def test_step_pauses_no_interactive_group(machine, clock, target, step_s):
    machine.manage("set_route", "live", target.host)
    with ThreadPoolExecutor(1) as pool:
        session = pool.submit(machine.manage, "shell", "--verbosity=0", "-c", INTERACTIVE, check=False)
        wait_for(lambda: len(target.log()) > 20, "the load")
        clock.step(step_s)
        done = session.result()
    assert done.returncode == 0, done.stderr + machine.log_tails()
    ((experiment_id,),) = machine.query(
        "SELECT id FROM experiments_experiment WHERE name = 'stepped' ORDER BY created_at DESC LIMIT 1"
    )
    machine.wait_for_status(experiment_id, "FINISHED", "FAILED")
    assert (machine.status(experiment_id), machine.experiment(experiment_id).reason) == ("FINISHED", "")
    logged = Counter(name for _, name, _, _ in target.log() if name)
    assert set(logged.values()) == {1}
    # Twelve seconds without a pause.
    assert len(logged) > 20 * 9
    rows = machine.query("SELECT COUNT(*) FROM experiments_trace WHERE experiment_id = ?", experiment_id)[0][0]
    assert rows >= len(logged)
    steps = machine.query(STEPS, experiment_id)
    assert [round(float(value.split()[1])) for (value,) in steps] == [step_s]
    # All rows lie between its start and its end, as in the series.
    experiment = machine.experiment(experiment_id)
    assert 10 < (experiment.ended_at - experiment.started_at).total_seconds() < 30
    points = machine.web.request("GET", f"/experiments/{experiment_id}/series").json()["points"]
    assert sum(point["arrivals"] for point in points) == rows
