"""The closed model: a client waits for its response, thinks, and sends its next request; all of it is accounted for."""

from collections import Counter, defaultdict
from itertools import pairwise

from loadgen.protocol.request_ids import request_id
from tests.e2e.test_load import routes, start_of, traces_of
from tests.support.ids import begin_of
from tests.support.plans import plan_data
from tests.support.waiting import wait_for

THINK_NS = 20_000_000


def closed_plan(target, **fields):
    fields = {"duration": 6, "interval": 3, "clients": [4, 8], "think_time": "20ms", **fields}
    return plan_data(model="closed", ticks=None, routing=routes(target.host), **fields)


def assert_each_request_is_a_row(galileo, experiment_id, target):
    """Ids in the target's log = ids sent = rows, each once; returns the rows."""
    rows = traces_of(galileo, experiment_id)
    sent = Counter(request_id(row[0], row[1], row[2]) for row in rows)
    assert set(sent.values()) == {1}
    assert Counter(name for _, name, _, _ in target.log() if name.startswith(begin_of(experiment_id))) == sent
    return rows


def most_in_flight(rows):
    """From the planned leaving of a request to its complete response."""
    changes = sorted([(row[3], 1) for row in rows] + [(row[5], -1) for row in rows])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def test_clients_on_two_workers_wait_for_their_responses(galileo, target):
    done = galileo.run(closed_plan(target))
    rows = assert_each_request_is_a_row(galileo, done["id"], target)
    assert len({row[9] for row in rows}) == 2
    middle_ns = start_of(galileo, done["id"]) + 3_000_000_000
    by_client = defaultdict(list)
    for row in rows:
        by_client[row[1]].append(row)
    assert sorted(by_client) == list(range(8))
    for client, requests in by_client.items():
        assert [row[2] for row in requests] == list(range(len(requests)))
        for before, after in pairwise(requests):
            assert after[3] - before[5] >= THINK_NS
        # Clients 4 to 7 are active in the second interval alone.
        assert (requests[0][3] >= middle_ns) == (client >= 4)
    assert most_in_flight(rows) <= 8
    assert most_in_flight([row for row in rows if row[3] < middle_ns - THINK_NS]) <= 4
    report = galileo.report(done["id"])
    assert (report["problems"], report["summary"]["account"]["planned"]) == ([], len(rows))
    assert report["summary"]["total"]["response_times_depend_on_completions"]
    assert [interval["clients"] for interval in report["summary"]["intervals"][0]["intervals"]] == [4, 8]


def test_run_ends_when_clients_made_their_number_of_requests(galileo, target):
    plan = closed_plan(target, think_time=0, clients=[5, 5], requests_per_client=40, duration="4m", interval="2m")
    done = galileo.run(plan)
    rows = assert_each_request_is_a_row(galileo, done["id"], target)
    assert Counter(row[1] for row in rows) == dict.fromkeys(range(5), 40)
    assert done["summary"]["account"]["not_made"] == 0
    assert done["summary"]["account"]["closes"]


def test_cancelled_closed_load_accounts_for_started_requests(galileo, target):
    experiment_id = galileo.begin(closed_plan(target, duration="5m", interval="150s"))
    wait_for(lambda: len(target.ids(experiment_id)) >= 100, "a hundred requests")
    galileo.manage(
        "shell", "-c", f"from experiments.services import ending as e; e.cancel({experiment_id!r}, 'by test')"
    )
    galileo.wait_for_status(experiment_id, "CANCELLED")
    assert_each_request_is_a_row(galileo, experiment_id, target)
    assert galileo.report(experiment_id)["summary"]["account"]["closes"]


def test_clients_of_a_lost_shard_restart_with_new_request_ids(galileo, target):
    plan = closed_plan(
        target, duration=16, interval=16, clients=[6], on_worker_loss="replace", worker_labels={"zone": "A"}
    )
    experiment_id = galileo.begin(plan)
    wait_for(lambda: len(target.ids(experiment_id)) >= 100, "a hundred requests")
    (shard,) = galileo.shard_processes("worker-a")
    shard.kill()
    galileo.wait_for_status(experiment_id, "FINISHED")
    logged = Counter(target.ids(experiment_id))
    assert set(logged.values()) == {1}
    rows = traces_of(galileo, experiment_id)
    assert {request_id(row[0], row[1], row[2]) for row in rows} <= set(logged)
    report = galileo.report(experiment_id, check=False)
    account = report["summary"]["account"]
    assert (account["contradictions"], account["losses_unknown"], account["planned"]) == ([], 1, len(rows))
    assert report["summary"]["verdict"]["status"] == "INVALID"
