"""Interactive load: groups that a user spawns and commands in the shell, and what records them."""

import json
import textwrap
import time
from collections import Counter

import pytest

from loadgen.protocol.keys import group_key
from loadgen.protocol.request_ids import request_id
from tests.support.ids import arrival_of, begin_of
from tests.support.waiting import wait_for

WRONG = {
    "g.spawn('live', 0)": "PlanInvalid: num: must be at least 1",
    "g.spawn('no way')": "PlanInvalid: service: ",
    "g.spawn('live', worker_labels={'zone': 'Z'})": "NoMatchingWorkers: no live worker has the label galileo_zone=",
    "g.spawn('live', parameters={'path': 'x'})": "PlanInvalid: client_parameters.path: must begin with /",
    "g.spawn('live', client='missing-app')": "GroupFailed: ",
    "g.spawn('live').rps(-1)": "PlanInvalid: rps: must be at least 0",
    "g.spawn('live').request()": "PlanInvalid: n: must have one of n",
    "g.spawn('live').request(ia=('nope', 1))": "PlanInvalid: ia: must be one of constant",
    "c = g.spawn('live'); c.close(); c.rps(1)": "GroupClosed: client group",
    "g.clients('g-nothere')": "ShellError: client group g-nothere",
    "exp.stop()": "NoExperiment: no experiment was started in this shell",
    "g.stop_tracing()": "NoExperiment: no interactive experiment is running",
    "g.start_tracing()": "NoExperiment: no interactive experiment is running",
    "exp.start('x' * 300)": "PlanInvalid: name: must have at most",
    "g.request('unrouted')": "ShellError: service 'unrouted' has no host",
}


@pytest.fixture
def shell(galileo, target):
    """Runs a script in the controller shell, with the target as service `live`; what it gave to `say`."""

    def run(script: str) -> list[object]:
        head = "import json, time\nsay = lambda value: print('said', json.dumps(value))\n"
        whole = head + f"LIVE = {target.host!r}\n" + textwrap.dedent(script)
        done = galileo.manage("shell", "--verbosity=0", "-c", whole, check=False)
        assert done.returncode == 0, done.stderr + galileo.log_tails()
        return [json.loads(line.removeprefix("said ")) for line in done.stdout.splitlines() if line.startswith("said ")]

    galileo.manage("set_route", "live", target.host)
    yield run
    run("g.clients().close()")


def test_a_session_commands_clients_and_each_request_is_counted(galileo, shell, target):
    said = shell(
        """
        c = g.spawn('live', 4)
        say([c.ids, len(c), [client.client_id for client in c.clients]])
        c.rps(20); time.sleep(1.5); c.pause(); time.sleep(0.3)
        say(sum(info.requests for info in c.info()) >= 0)
        c.request(n=10).wait(20)
        c.request(n=5, ia=('expovariate', 50)).wait(20)
        c.request(n=2, ia=0.05).wait(20)
        c.request(ia=('prerecorded', [0.01, 0.02, 0.0])).wait(20)
        c.close()
        """
    )
    (group_id,), clients, names = said[0]
    assert clients == 4
    assert names == [f"{group_id}.{index}" for index in range(4)]
    wait_for(
        lambda: galileo.query("SELECT ended_at FROM experiments_interactivegroup WHERE group_id = ?", group_id)[0][0],
        "an end",
    )
    logged = Counter(name for _, name, _, _ in target.log() if name.startswith(begin_of(group_id)))
    assert set(logged.values()) == {1}
    by_client = Counter(arrival_of(name)[0] for name in logged)
    assert set(by_client) == {0, 1, 2, 3}
    assert all(20 + 24 <= count <= 20 + 36 for count in by_client.values())
    assert not galileo.broker().exists(group_key(group_id))


def test_recorded_gaps_come_from_a_file_and_from_redis_lists(galileo, shell, target, tmp_path):
    (tmp_path / "monday.csv").write_text("time\n0.05\n0.1\n0.3\n")
    said = shell(
        f"""
        from routing.redis import redis_client
        c = g.spawn('live', 2)
        c.request(ia=('prerecorded', {str(tmp_path / "monday.csv")!r})).wait(20)
        for client, gaps in zip(c.clients, [[0.1, 0.2], [0.3, 0, 0.1, 5]]):
            for gap in gaps:
                redis_client().lpush(client.client_id, gap)
        for _ in range(2):
            c.request(n=3, ia=('prerecorded', 'any word')).wait(20)
        say(c.ids)
        redis_client().delete(c.clients[1].client_id)
        try:
            c.request(ia='prerecorded')
        except Exception as error:
            say(str(error))
        redis_client().delete(c.clients[0].client_id)
        c.close()
        """
    )
    ((group_id,), refused) = said
    assert refused == f"ia: the list '{group_id}.1' is missing in Redis, or empty"
    begin = begin_of(group_id)
    at_s = {arrival_of(name): at_s for at_s, name, _, _ in target.log() if name.startswith(begin)}
    # Three of the file, then twice two of the first list, and three of the second.
    assert sorted(client for client, _ in at_s) == [0] * 7 + [1] * 9
    second = sorted(at for (client, _), at in at_s.items() if client == 1)
    for begin in (3, 6):
        assert abs(second[begin + 2] - second[begin] - 0.1) < 0.08


def test_requests_that_are_waited_for_end_in_any_case(galileo, shell):
    said = shell(
        """
        from experiments.shell.errors import ShellError
        def ending(future, timeout=10):
            try:
                return future.wait(timeout) or 'done'
            except ShellError as error:
                return type(error).__name__
        c = g.spawn('live', 2)
        say(ending(c.request(n=5, ia=60), 0.3))
        first = c.request(n=5, ia=60)
        second = c.request(n=1)
        say([ending(first), ending(second)])
        third = c.request(n=5, ia=60)
        third.abort()
        say(ending(third))
        fourth = c.request(n=5, ia=60)
        c.close()
        say(ending(fourth))
        """
    )
    assert said == ["NotReady", ["Superseded", "done"], "Superseded", "GroupFailed"]


def test_interactive_experiment_records_from_start_to_stop(galileo, shell, target):
    (said,) = shell(
        """
        c = g.spawn('live', 2)
        c.request(n=5).wait(20)
        exp.start('by hand', 'tester', {'why': 'test'})
        exp.event('mark', 'here')
        c.request(n=20).wait(20)
        d = g.spawn('live', 1)
        d.request(n=7).wait(20)
        c.add(1)
        c.request(n=3).wait(20)
        c.close(2)
        c.request(n=2).wait(20)
        id = exp.id
        exp.stop()
        c.request(n=4).wait(20)
        say([id, (c + d).ids])
        """
    )
    experiment_id, groups = said
    assert galileo.wait_for_status(experiment_id, "FINISHED", "FAILED") == "FINISHED"
    report = galileo.report(experiment_id)["summary"]
    assert report["account"]["rows"] == report["account"]["completed"] == 2 * 20 + 7 + 3 * 3 + 2
    assert report["account"]["closes"]
    assert report["verdict"]["status"] != "INVALID", report["verdict"]  # a busy machine degrades it
    assert [event["name"] for event in report["events"] if event["name"] != "routing"][:2] == ["running", "mark"]
    rows = galileo.query("SELECT count(*) FROM experiments_trace WHERE experiment_id = ?", experiment_id)
    assert rows == [(58,)]
    logged = Counter(name for _, name, _, _ in target.log() if name.startswith(tuple(map(begin_of, groups))))
    assert len(logged) == 58 + 2 * 5 + 4
    assert set(logged.values()) == {1}


def test_paused_tracing_stores_no_rows_but_keeps_statistics(galileo, shell, target, tmp_path):
    (said,) = shell(
        """
        def at(do):
            before = time.time(); do(); return before, time.time()
        c = g.spawn('live', 3)
        exp.start('paused', 'tester')
        id = exp.id
        c.rps(50); time.sleep(1.5)
        pauses = []
        for _ in range(2):
            _, begin = at(g.stop_tracing)
            time.sleep(1.5)
            pauses.append([begin + 0.5, time.time()])
            g.start_tracing()
            time.sleep(1.5)
        g.stop_tracing()
        d = g.spawn('live', 1)
        d.request(n=10).wait(20)
        g.start_tracing()
        c.pause(); time.sleep(0.5)
        d.request(n=5).wait(20)
        (c + d).close()
        exp.stop()
        say([id, c.ids + d.ids, pauses])
        """
    )
    experiment_id, groups, pauses = said
    assert galileo.wait_for_status(experiment_id, "FINISHED", "FAILED") == "FINISHED"
    logged = [(at, name) for at, name, _, _ in target.log() if name.startswith(tuple(map(begin_of, groups)))]
    ids = {name for _, name in logged}
    stored = set(ids_stored(galileo, experiment_id))
    paused = {name for at, name in logged for begin, end in pauses if begin <= at < end}
    assert len(ids) == len(logged)
    assert stored < ids
    assert not stored & paused
    assert len(paused) >= 2 * 0.5 * 150  # there was load in each pause
    assert len(stored) >= 3 * 100
    assert sum(name.startswith(begin_of(groups[1])) for name in stored) == 5
    target.stop()  # which writes its log
    report = galileo.report(experiment_id, target.log_file)
    account = report["summary"]["account"]
    assert (report["problems"], account["closes"], account["missing"]) == ([], True, 0)
    assert account["rows"] == len(stored)
    assert account["rows"] + account["untraced"] == account["completed"] == len(logged)
    assert report["target"]["untraced"] == account["untraced"]
    assert "were not traced" in report["summary"]["verdict"]["reasons"][-1]["sentence"]
    names = [event["name"].partition(" ")[2] for event in report["summary"]["events"] if "tracing" in event["name"]]
    assert names == ["paused", "resumed"] * 3


def ids_stored(galileo, experiment_id):
    """The request ids of an experiment's rows."""
    rows = galileo.query(
        "SELECT s.group_id, t.client, t.sequence FROM experiments_trace t JOIN experiments_shard s ON s.id = t.shard_id"
        " WHERE t.experiment_id = ?",
        experiment_id,
    )
    return [request_id(*row) for row in rows]


def test_a_plan_without_tracing_keeps_its_statistics_alone(galileo, target):
    done = galileo.run(
        {
            "configuration": {
                "duration": "3s",
                "interval": "1s",
                "tracing": False,
                "workloads": [{"service": "soak", "ticks": [100, 50, 200], "worker_labels": {"zone": "A"}}],
            },
            "routing": [{"service": "soak", "hosts": [target.host], "weights": [1]}],
        }
    )
    logged = target.ids(f"{done['id']}.0")
    assert len(logged) == len(set(logged)) == 350
    assert ids_stored(galileo, done["id"]) == []
    target.stop()
    report = galileo.report(done["id"], target.log_file)
    account = report["summary"]["account"]
    assert (account["planned"], account["rows"], account["untraced"], account["completed"]) == (350, 0, 350, 350)
    assert (report["problems"], account["closes"]) == ([], True)
    assert [each["sent"] for each in report["summary"]["intervals"][0]["intervals"]] == [100, 50, 200]
    assert report["summary"]["hosts"][0]["hosts"] == [
        {"host": target.host, "sent": 350, "share": 1.0, "weight_share": 1.0, "addresses": {}}
    ]


def test_an_experiment_whose_session_dies_is_ended_and_says_so(galileo, shell):
    (experiment_id,) = shell("say(exp.start('left'))")
    shell(
        """
        from datetime import timedelta
        Experiment.objects.update(renewed_at=Experiment.objects.get().renewed_at - timedelta(minutes=1))
        """.replace("get()", f"get(id={experiment_id!r})")
    )
    assert galileo.wait_for_status(experiment_id, "FINISHED", "FAILED") == "FINISHED"
    ((reason,),) = galileo.query("SELECT reason FROM experiments_experiment WHERE id = ?", experiment_id)
    assert "its session ended without a stop" in reason


def test_rate_outlives_the_shell_and_a_new_shell_finds_clients(galileo, shell, target):
    ((ids,),) = shell("c = g.spawn('live', 2); c.rps(20); say([c.ids])")
    before = len(target.log())
    time.sleep(1.5)
    assert len(target.log()) >= before + 30
    ((doing, count),) = shell(f"c = g.clients(*{ids!r}); say([repr(c), len(c)]); c.close()")
    assert count == 2
    assert ids[0] in doing


def test_what_is_wrong_is_a_sentence(shell):
    (said,) = shell(
        f"""
        def sentence(script):
            try:
                exec(script, globals())
            except Exception as error:
                return f"{{type(error).__name__}}: {{error}}"
        say([sentence(script) for script in {list(WRONG)!r}])
        """
    )
    assert len(said) == len(WRONG)
    for script, expected, sentence in zip(WRONG, WRONG.values(), said, strict=True):
        assert sentence.startswith(expected), script


def test_one_request_from_here(shell, target):
    assert shell("say(g.request('live', parameters={'path': '/here'}).status_code)") == [200]
    assert any(b"/here" in str(entry).encode() for entry in target.log())


def test_one_request_of_a_client_app_from_here(shell, target):
    assert shell("say(g.request('live', client='squeezenet').status_code)") == [200]
    assert ("POST", "/predictions/squeezenet") in {(method, path) for _, _, method, path in target.log()}
