"""An experiment that is interrupted, cancelled or fails ends in order, and the load ends with it."""

import signal
import subprocess
import sys
import time

from galileo_site.environment import PROJECT_ROOT
from tests.e2e.test_load import assert_account_closes, routes
from tests.support.plans import plan_data
from tests.support.waiting import wait_for


def long_plan(target, **fields):
    return plan_data(duration=60, interval=60, ticks=[50], routing=routes(target.host), **fields)


def test_ctrl_c_cancels_the_experiment_and_exits_130(galileo, target):
    path = galileo.write_plan(long_plan(target))
    command = [sys.executable, str(PROJECT_ROOT / "manage.py"), "run_experiment", str(path), "--wait"]
    with subprocess.Popen(
        command, env=galileo.environment, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        wait_for(lambda: len(target.log()) > 20, "the load to run")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    seen = len(target.log())
    time.sleep(1)
    assert len(target.log()) == seen
    ((experiment_id,),) = galileo.query("SELECT id FROM experiments_experiment ORDER BY created_at DESC LIMIT 1")
    galileo.wait_for_status(experiment_id, "CANCELLED")
    rows = assert_account_closes(galileo, experiment_id, target)
    assert len(rows) == 3000


def test_broken_app_fails_its_experiment_alone(galileo, target):
    broken = plan_data(routing=routes(target.host), client="squeezenet", client_parameters={"size": "no"})
    done = galileo.manage("run_experiment", galileo.write_plan(broken), "--wait", check=False)
    assert done.returncode == 1
    assert "squeezenet" in done.stdout + done.stderr
    assert galileo.run(plan_data(routing=routes(target.host)))["status"] == "FINISHED"


def test_missing_target_is_counted_and_run_finishes(galileo):
    done = galileo.run(plan_data(routing=routes("127.0.0.1:9")))
    outcomes = galileo.query(
        "SELECT outcome, COUNT(*) FROM experiments_trace WHERE experiment_id=? GROUP BY outcome", done["id"]
    )
    assert outcomes == [(18, 20)]
    assert done["status"] == "FINISHED"
