"""Shards that wait in a label's queue run on whichever worker with that label is free, however late it comes; once
their experiment is over nobody runs them any more."""

from collections import Counter

import pytest

from loadgen.protocol.keys import group_key, label_queue
from tests.e2e.test_load import assert_account_closes, routes
from tests.support.plans import plan_data
from tests.support.waiting import wait_for

HELD = """
    SELECT w.name, s.status, s.attempt FROM experiments_shard s
    LEFT JOIN experiments_worker w ON w.id = s.worker_id
    JOIN experiments_clientgroup g ON g.id = s.group_id WHERE g.experiment_id = ? ORDER BY s."index"
"""

LIVE = "SELECT name FROM experiments_worker WHERE status IN ('READY', 'DRAINING')"


@pytest.fixture
def join(galileo):
    """Starts workers of one slot in a zone of their own; stops those that are left, and waits until nobody of them is
    listed: other tests tell what workers there are."""
    joined = []

    def start(zone, *names):
        for name in names:
            galileo.start_worker(name, galileo_zone=zone, galileo_slots="1")
            joined.append(name)

    yield start
    galileo.stop(*joined)
    for name in joined:
        galileo.children.pop(name)
    wait_for(lambda: {name for (name,) in galileo.query(LIVE)}.isdisjoint(joined), "the workers to be gone")


def queued(target, zone, shards=3, **fields):
    return plan_data(
        duration=4, interval=2, ticks=[60, 90], clients_per_host=7, placement="queue", shards=shards,
        worker_labels={"zone": zone}, routing=routes(target.host), **fields,
    )  # fmt: skip


def held(galileo, experiment_id):
    return galileo.query(HELD, experiment_id)


def waiting_in(galileo, zone):
    return galileo.broker().llen(label_queue("zone", zone))


def test_free_workers_and_late_workers_take_queued_shards(galileo, target, join):
    join("Q1", "q1-a", "q1-b")
    experiment_id = galileo.begin(queued(target, "Q1"))
    wait_for(
        lambda: Counter(state for _, state, _ in held(galileo, experiment_id)) == {"READY": 2, "DISPATCHED": 1},
        "two shards to be ready",
    )
    assert {name for name, state, _ in held(galileo, experiment_id) if state == "READY"} == {"q1-a", "q1-b"}
    assert (galileo.status(experiment_id), waiting_in(galileo, "Q1")) == ("STARTING", 1)
    join("Q1", "q1-late")
    galileo.wait_for_status(experiment_id, "FINISHED")
    assert sorted(held(galileo, experiment_id)) == [(name, "FINISHED", 1) for name in ("q1-a", "q1-b", "q1-late")]
    rows = assert_account_closes(galileo, experiment_id, target)
    assert len(rows) == 300
    assert galileo.report(experiment_id)["summary"]["account"]["closes"]


@pytest.mark.parametrize(("zone", "is_long_ago"), [("Q2", False), ("Q3", True)])
def test_late_worker_refuses_shards_of_a_cancelled_experiment(galileo, target, join, zone, is_long_ago):
    experiment_id = galileo.web.begin(queued(target, zone, shards=2))  # nobody has this label yet
    wait_for(lambda: waiting_in(galileo, zone) == 2, "the orders to wait")
    assert galileo.web.cancel(experiment_id) == 202
    galileo.wait_for_status(experiment_id, "CANCELLED")
    assert held(galileo, experiment_id) == [(None, "LOST", 1)] * 2
    if is_long_ago:  # the group's stop has expired
        assert galileo.broker().delete(group_key(f"{experiment_id}.0")) == 1
    second = galileo.web.begin(queued(target, zone, shards=1))
    join(zone, f"late-{zone}")
    galileo.wait_for_status(second, "FINISHED")
    log = galileo.children[f"late-{zone}"].log_tail(200)
    assert log.count(f"the order is refused: its group {experiment_id}.0 has ended") == 2
    assert target.ids(experiment_id) == []
    account = galileo.report(experiment_id, check=False)["summary"]["account"]
    assert (account["planned"], account["rows"], account["lost"], account["contradictions"]) == (300, 0, 300, [])
    assert held(galileo, experiment_id) == [(None, "LOST", 1)] * 2
    assert held(galileo, second) == [(f"late-{zone}", "FINISHED", 1)]
    assert_account_closes(galileo, second, target)


def test_shard_of_a_lost_worker_waits_in_the_queue(galileo, target, join):
    join("Q4", "q4-a", "q4-b")
    plan = queued(target, "Q4", shards=2, on_worker_loss="replace")
    plan["configuration"] |= {"duration": 20, "interval": 20}
    plan["configuration"]["workloads"][0]["ticks"] = [60]
    experiment_id = galileo.begin(plan)
    wait_for(lambda: target.ids(experiment_id), "the load")
    galileo.kill("q4-a")  # the main process; its shard goes with it
    join("Q4", "q4-c")
    galileo.wait_for_status(experiment_id, "FINISHED")
    assert sorted(held(galileo, experiment_id)) == [("q4-b", "FINISHED", 1), ("q4-c", "FINISHED", 2)]
    account = galileo.report(experiment_id, check=False)["summary"]["account"]
    assert account["planned"] == 1200 == account["rows"] + account["lost"]
    assert account["contradictions"] == []
    assert set(Counter(target.ids(experiment_id)).values()) == {1}


def test_a_group_that_is_spawned_by_hand_runs_on_who_is_free(galileo, target, join):
    join("Q5", "q5-a", "q5-b")
    galileo.manage("set_route", "web", target.host)
    script = """
c = g.spawn('web', 4, worker_labels={'zone': 'Q5'}, placement='queue', shards=2)
c.request(n=10).wait(30)
print('ids', *c.ids)
show.clients()
c.close()
"""
    done = galileo.manage("shell", "--verbosity=0", "-c", script)
    (group_id,) = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ids")]
    assert Counter(target.ids(group_id)).total() == len(set(target.ids(group_id))) == 40
    assert done.stdout.count("q5-a") == done.stdout.count("q5-b") == 2
