"""The load that was asked for is the load that the target saw, request by request."""

from collections import Counter, defaultdict

from scipy import stats

from loadgen.protocol.request_ids import request_id
from tests.support.ids import begin_of
from tests.support.plans import plan_data
from tests.support.waiting import wait_for

TRACES = """
    SELECT g.id, t.client, t.sequence, t.intended_ns, t.sent_ns, t.done_ns, t.outcome, t.host, t.routing_version,
        t.shard_id
    FROM experiments_trace t
    JOIN experiments_shard s ON s.id = t.shard_id
    JOIN experiments_clientgroup g ON g.id = s.group_id
    WHERE t.experiment_id = ? ORDER BY t.intended_ns
"""


def traces_of(galileo, experiment_id):
    return galileo.query(TRACES, experiment_id)


def start_of(galileo, experiment_id):
    return galileo.query("SELECT start_broker_ns FROM experiments_experiment WHERE id = ?", experiment_id)[0][0]


def assert_account_closes(galileo, experiment_id, *targets):
    """Rows = planned, ids in the targets' logs = ids sent, each once; returns the rows."""
    rows = traces_of(galileo, experiment_id)
    planned = galileo.query(
        "SELECT SUM(s.planned) FROM experiments_shard s JOIN experiments_clientgroup g ON g.id = s.group_id"
        " WHERE g.experiment_id = ?",
        experiment_id,
    )[0][0]
    assert len(rows) == planned
    assert len({(group, client, sequence) for group, client, sequence, *_ in rows}) == planned
    sent = Counter(request_id(row[0], row[1], row[2]) for row in rows if row[4] is not None)
    logged = Counter(
        name for target in targets for _, name, _, _ in target.log() if name.startswith(begin_of(experiment_id))
    )
    assert logged == sent
    return rows


def routes(*hosts, weights=None):
    return [{"service": "web", "hosts": list(hosts), "weights": weights or [1] * len(hosts)}]


def test_constant_ticks_reach_the_target_interval_by_interval(galileo, target):
    ticks = [50, 100, 200, 100]
    done = galileo.run(plan_data(duration="20s", interval="5s", ticks=ticks, routing=routes(target.host)))
    rows = assert_account_closes(galileo, done["id"], target)
    assert len(rows) == sum(ticks) * 5
    start_s = start_of(galileo, done["id"]) / 1e9
    counts = Counter(int((at - start_s) // 5) for at, name, _, _ in target.log())
    for interval, rate in enumerate(ticks):
        assert abs(counts[interval] - rate * 5) <= 0.01 * rate * 5
    assert done["status"] == "FINISHED"


def test_poisson_gaps_of_each_client_are_exponential(galileo, target):
    plan = plan_data(
        duration=15, interval=5, ticks=[200, 100, 200], arrival_pattern="expovariate", clients_per_host=4, seed=11,
        routing=routes(target.host),
    )  # fmt: skip
    done = galileo.run(plan)
    rows = assert_account_closes(galileo, done["id"], target)
    start_ns = start_of(galileo, done["id"])
    counts = Counter((row[3] - start_ns) // 5_000_000_000 for row in rows)
    for interval, rate in enumerate([200, 100, 200]):
        assert abs(counts[interval] - rate * 5) <= 4 * (rate * 5) ** 0.5
    # Within the first interval the rate is constant: 50 per second and client.
    arrivals = defaultdict(list)
    for row in rows:
        if row[3] - start_ns < 5_000_000_000:
            arrivals[row[1]].append((row[3] - start_ns) / 1e9)
    assert len(arrivals) == 4
    for times in arrivals.values():
        gaps = [after - before for before, after in zip([0.0, *times], times, strict=False)]
        assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01


def test_intended_times_do_not_depend_on_number_of_workers(galileo, target):
    def intended(**labels):
        plan = plan_data(
            duration=3, interval=2, ticks=[60, 90], arrival_pattern="poisson", clients_per_host=7, seed=5,
            routing=routes(target.host), worker_labels=labels,
        )  # fmt: skip
        experiment_id = galileo.run(plan)["id"]
        start_ns = start_of(galileo, experiment_id)
        rows = assert_account_closes(galileo, experiment_id, target)
        return sorted((row[1], row[2], row[3] - start_ns) for row in rows), len({row[9] for row in rows})

    (one, one_shard), (two, two_shards) = intended(zone="A"), intended()
    assert (one_shard, two_shards) == (1, 2)
    assert one == two


def test_each_shard_sends_each_host_its_exact_share(galileo, three_targets):
    hosts = [target.host for target in three_targets]
    plan = plan_data(duration=4, interval=4, ticks=[151], clients_per_host=9, routing=routes(*hosts, weights=[1, 2, 3]))
    done = galileo.run(plan)
    rows = assert_account_closes(galileo, done["id"], *three_targets)
    by_shard = defaultdict(Counter)
    for row in rows:
        by_shard[row[9]][row[7]] += 1
    assert len(by_shard) == 2
    for counts in by_shard.values():
        for host, weight in zip(hosts, (1, 2, 3), strict=True):
            assert abs(counts[host] - counts.total() * weight / 6) <= 1
    # The targets' own logs say the same.
    seen = [sum(name.startswith(begin_of(done["id"])) for _, name, _, _ in target.log()) for target in three_targets]
    assert seen == [sum(counts[host] for counts in by_shard.values()) for host in hosts]


def test_weight_change_takes_effect_within_a_second(galileo, three_targets):
    hosts = [target.host for target in three_targets]
    experiment_id = galileo.begin(
        plan_data(duration=8, interval=8, ticks=[120], clients_per_host=6, routing=routes(*hosts, weights=[1, 1, 0]))
    )
    galileo.wait_for_status(experiment_id, "RUNNING")
    wait_for(lambda: three_targets[0].ids(experiment_id), "the first request")
    galileo.manage("set_route", "web", f"{hosts[0]}@0", f"{hosts[1]}@1", f"{hosts[2]}@3")
    galileo.wait_for_status(experiment_id, "FINISHED")
    rows = assert_account_closes(galileo, experiment_id, *three_targets)
    versions = sorted({row[8] for row in rows})
    assert len(versions) == 2
    old, new = versions
    by_version = {version: Counter(row[7] for row in rows if row[8] == version) for version in versions}
    assert set(by_version[old]) <= {hosts[0], hosts[1]}
    assert set(by_version[new]) <= {hosts[1], hosts[2]}
    assert abs(by_version[new][hosts[2]] / by_version[new].total() - 0.75) < 0.02
    (changed_at,) = galileo.query(
        "SELECT (julianday(changed_at) - 2440587.5) * 86400 FROM routing_routingrevision"
        " WHERE service='web' AND version=?",
        new,
    )[0]
    last_old_s = max(row[4] for row in rows if row[8] == old) / 1e9
    assert last_old_s - changed_at < 1
    events = galileo.query(
        "SELECT value FROM experiments_event WHERE experiment_id=? AND name='routing' ORDER BY id", experiment_id
    )
    assert [value.split(":")[0] for (value,) in events] == [f"web version {old}", f"web version {new}"]


def test_a_label_places_the_load_on_its_worker_only(galileo, target):
    done = galileo.run(plan_data(routing=routes(target.host), worker_labels={"zone": "A"}, clients_per_host=8))
    workers = galileo.query(
        "SELECT DISTINCT w.name FROM experiments_shard s JOIN experiments_worker w ON w.id = s.worker_id"
        " JOIN experiments_clientgroup g ON g.id = s.group_id WHERE g.experiment_id = ?",
        done["id"],
    )
    assert workers == [("worker-a",)]


def test_a_label_that_nobody_carries_is_named_and_leaves_no_row(galileo, target):
    before = galileo.query("SELECT COUNT(*) FROM experiments_experiment")
    path = galileo.write_plan(plan_data(routing=routes(target.host), worker_labels={"zone": "C"}))
    done = galileo.manage("run_experiment", path, "--wait", check=False)
    assert done.returncode == 3
    assert "galileo_zone=C" in done.stderr
    assert galileo.query("SELECT COUNT(*) FROM experiments_experiment") == before


def test_two_workloads_run_side_by_side(galileo, three_targets):
    first, second, _ = three_targets
    plan = plan_data(duration=3, interval=1, ticks=[30, 0, 45.5], routing=[])
    workloads = plan["configuration"]["workloads"]
    workloads.append(
        {"service": "api", "ticks": [0, 20, 20], "arrival_pattern": "poisson", "path": "/x", "method": "POST"}
    )
    plan["routing"] = [
        {"service": "web", "hosts": [first.host], "weights": [1]},
        {"service": "api", "hosts": [second.host], "weights": [1]},
    ]
    done = galileo.run(plan)
    assert_account_closes(galileo, done["id"], first, second)
    assert {(method, path) for _, _, method, path in second.log()} == {("POST", "/x")}
    assert len(first.ids(f"{done['id']}.0")) == 75  # 30 + 0 + 45.5: the last half gap is not over


def test_the_report_agrees_with_the_targets_own_log(galileo, target, tmp_path):
    done = galileo.run(plan_data(routing=routes(target.host)))
    target.stop()  # writes its log
    report = galileo.report(done["id"], tmp_path / "target.log")
    assert report["summary"]["account"]["planned"] == report["summary"]["account"]["rows"] == 20
    assert report["sound"]
    (tmp_path / "short.log").write_text("\n".join((tmp_path / "target.log").read_text().splitlines()[1:]))
    refused = galileo.manage("report", done["id"], "--target-log", tmp_path / "short.log", check=False)
    assert refused.returncode == 1
