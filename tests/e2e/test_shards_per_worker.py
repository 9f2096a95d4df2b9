"""Several shards of one group on one worker are one load: placement over cores does not change what is sent."""

from collections import Counter, defaultdict

import pytest

from tests.e2e.test_load import assert_account_closes, routes, start_of
from tests.support.plans import plan_data
from tests.support.waiting import wait_for


def run(galileo, target, hosts, shards, **fields):
    """Runs a plan on one worker; (rows as (client, sequence, intended since the start), hosts by shard)."""
    plan = plan_data(
        duration=3, interval=2, seed=5, worker_labels={"zone": "A"}, shards_per_worker=shards, routing=routes(*hosts),
        **{"ticks": [60, 90], "clients_per_host": 7, **fields},
    )  # fmt: skip
    done = galileo.run(plan)
    rows = assert_account_closes(galileo, done["id"], target)
    placed = galileo.query(
        "SELECT s.id, w.name FROM experiments_shard s JOIN experiments_worker w ON w.id = s.worker_id"
        " JOIN experiments_clientgroup g ON g.id = s.group_id WHERE g.experiment_id = ?",
        done["id"],
    )
    assert [worker for _, worker in placed] == ["worker-a"] * shards
    assert done["summary"]["account"]["closes"]
    by_shard = defaultdict(Counter)
    for row in rows:
        by_shard[row[9]][row[7]] += 1
    assert sorted(by_shard) == sorted(shard for shard, _ in placed)
    start_ns = start_of(galileo, done["id"])
    return sorted((row[1], row[2], row[3] - start_ns) for row in rows), by_shard


@pytest.mark.parametrize("pattern", ["constant", "poisson"])
def test_two_shards_on_one_worker_have_the_intended_times_of_one(galileo, target, pattern):
    one, _ = run(galileo, target, [target.host], 1, arrival_pattern=pattern)
    two, by_shard = run(galileo, target, [target.host], 2, arrival_pattern=pattern)
    assert two == one
    if pattern == "constant":
        assert sorted(counts.total() for counts in by_shard.values()) == [90, 120]  # 3 and 4 of 7 clients


def test_shards_share_hosts_and_start_with_different_ones(galileo, target):
    _, by_shard = run(galileo, target, target.hosts[:2], 2, ticks=[1, 1], clients_per_host=2)
    assert [counts.total() for counts in by_shard.values()] == [2, 1]
    first, second = by_shard.values()
    assert max(first.values()) == 1 and set(first) == set(target.hosts[:2])
    assert list(second) == [target.hosts[1]]


def test_lost_shard_is_replaced_on_the_same_worker(galileo, target):
    plan = plan_data(
        duration=20, interval=20, ticks=[100], clients_per_host=6, worker_labels={"zone": "A"}, shards_per_worker=2,
        on_worker_loss="replace", routing=routes(target.host),
    )  # fmt: skip
    experiment_id = galileo.begin(plan)
    wait_for(lambda: target.ids(experiment_id), "the first request")
    first, _ = sorted(galileo.shard_processes("worker-a"), key=lambda process: process.pid)
    first.kill()
    galileo.wait_for_status(experiment_id, "FINISHED")
    attempts = galileo.query(
        "SELECT s.attempt, s.status, w.name FROM experiments_shard s"
        " JOIN experiments_worker w ON w.id = s.worker_id"
        " JOIN experiments_clientgroup g ON g.id = s.group_id WHERE g.experiment_id = ? ORDER BY s.attempt",
        experiment_id,
    )
    assert attempts == [(1, "FINISHED", "worker-a"), (2, "FINISHED", "worker-a")]
    account = galileo.report(experiment_id, check=False)["summary"]["account"]
    assert account["planned"] == 2000 == account["rows"] + account["lost"]
    assert account["contradictions"] == []
    assert set(Counter(target.ids(experiment_id)).values()) == {1}
