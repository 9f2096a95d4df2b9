"""Scripts that a user pushes into Redis, the original's own example too, with a daemon that is killed meanwhile."""

from collections.abc import Iterator

import pytest

from galileo_site.environment import PROJECT_ROOT
from loadgen.protocol.keys import WORKERS_KEY, worker_key
from tests.e2e.test_load import assert_account_closes, start_of
from tests.support.galileo import Galileo
from tests.support.waiting import wait_for

# Word for word what a user types behind LPUSH.
KEY = "galileo:experiments:instructions"
INSTRUCTION = (
    r'{"instructions": "spawn exphost squeezenet 1\nsleep 2\nrps exphost squeezenet 1\nsleep 5\n'
    r'rps exphost squeezenet 0\nsleep 2\nclose exphost squeezenet"}'
)
DAEMON = ("experimentd", "experimentd", "--logging", "DEBUG")


@pytest.fixture(scope="module")
def exphost(galileo: Galileo) -> Iterator[Galileo]:
    """Galileo with a further worker, and with the daemon; both are gone afterwards."""
    galileo.start(
        "exphost",
        [str(PROJECT_ROOT / "bin" / "run"), "worker"],
        galileo_worker_name="exphost",
        galileo_zone="C",
        galileo_spool_dir=str(galileo.spool("exphost")),
    )
    galileo.start_controller(*DAEMON)
    try:
        wait_for(lambda: galileo.broker().exists(worker_key("exphost")), "exphost to register")
        yield galileo
    finally:
        galileo.stop("experimentd", "exphost")
        galileo.broker().srem(WORKERS_KEY, "exphost")
        status = "SELECT status FROM experiments_worker WHERE name = 'exphost'"
        wait_for(lambda: galileo.query(status) in ([], [("GONE",)], [("LOST",)]), "exphost to be gone")


def ids_of(galileo: Galileo) -> list[str]:
    rows = galileo.query("SELECT id FROM experiments_experiment WHERE instruction_id IS NOT NULL ORDER BY created_at")
    return [experiment_id for (experiment_id,) in rows]


def test_original_example_finishes_with_the_targets_requests(exphost, target):
    galileo = exphost
    galileo.manage("set_route", "squeezenet", f"{target.host}@1")
    galileo.broker().execute_command("LPUSH", KEY, INSTRUCTION)
    moments = [
        lambda: True,
        lambda: ids_of(galileo),
        lambda: galileo.status(ids_of(galileo)[0]) == "RUNNING",
        lambda: len(target.log()) >= 1,
        lambda: len(target.log()) >= 4,
    ]
    for number, has_come in enumerate(moments, start=1):
        wait_for(has_come, f"moment {number}")
        galileo.kill("experimentd")
        galileo.start_controller(*DAEMON)
    (experiment_id,) = ids_of(galileo)
    assert galileo.wait_for_status(experiment_id, "FINISHED", "FAILED") == "FINISHED", galileo.log_tails()
    rows = assert_account_closes(galileo, experiment_id, target)
    start_ns = start_of(galileo, experiment_id)
    assert [round((row[3] - start_ns) / 1e9, 6) for row in rows] == [2.5, 3.5, 4.5, 5.5, 6.5]
    assert {row[6] for row in rows} == {0}
    # The client app of the service's name made them, as in the original.
    assert {(method, path) for _, _, method, path in target.log()} == {("POST", "/predictions/squeezenet")}
    assert ids_of(galileo) == [experiment_id]
    report = galileo.report(experiment_id)
    (workload,) = report["summary"]["intervals"]
    assert [(row["duration_s"], row["sent"]) for row in workload["intervals"]] == [(2, 0), (5, 5), (2, 0)]


def test_events_respawns_and_an_id_of_its_own_on_two_workers(exphost, target):
    galileo = exphost
    galileo.manage("set_route", "web", f"{target.host}@1")
    script = (
        "spawn exphost web 2\nspawn worker-a web 1\nevent begin\nrps exphost web 5\nrps worker-a web 10\nsleep 1\n"
        "close exphost web\nevent half way\nsleep .5\nspawn exphost web 1\nrps exphost web 4\nsleep 1\nevent end"
    )
    instruction = f'{{"instructions": "{script}", "exp_id": "pushed-1", "creator": "carol"}}'.replace("\n", "\\n")
    galileo.broker().lpush(KEY, instruction)
    wait_for(lambda: "pushed-1" in ids_of(galileo), "the experiment")
    assert galileo.wait_for_status("pushed-1", "FINISHED", "FAILED") == "FINISHED", galileo.log_tails()
    rows = assert_account_closes(galileo, "pushed-1", target)
    sent = {group: sum(row[0] == f"pushed-1.{group}" for row in rows) for group in range(3)}
    assert sent == {0: 10, 1: 25, 2: 4}
    placed = galileo.query(
        "SELECT g.id, w.name FROM experiments_shard s JOIN experiments_clientgroup g ON g.id = s.group_id"
        " JOIN experiments_worker w ON w.id = s.worker_id WHERE g.experiment_id = 'pushed-1' ORDER BY g.id"
    )
    assert placed == [("pushed-1.0", "exphost"), ("pushed-1.1", "worker-a"), ("pushed-1.2", "exphost")]
    marks = galileo.query(
        "SELECT v.name, v.value, ROUND((julianday(v.timestamp) - julianday(e.started_at)) * 86400, 2)"
        " FROM experiments_event v JOIN experiments_experiment e ON e.id = v.experiment_id"
        " WHERE e.id = 'pushed-1' AND v.key LIKE 'plan:%' ORDER BY v.key"
    )
    assert marks == [("begin", "", 0), ("half", "way", 1), ("end", "", 2.5)]
