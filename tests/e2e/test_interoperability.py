"""The original's own programs against ours: its command line, its routing table, and telemd's controller."""

import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from galileo_site.environment import PROJECT_ROOT
from tests.e2e.test_load import routes
from tests.support.plans import plan_data

APP = PROJECT_ROOT / "examples" / "apps" / "squeezenet"


@pytest.fixture
def run_original(original, galileo, tmp_path):
    """Runs a script with the original's packages; `rds` is a client of our broker."""

    def run(script: str) -> str:
        head = (
            "import redis\n"
            f"rds = redis.Redis(port={galileo.redis.port}, password={galileo.redis.password!r},"
            " decode_responses=True)\n"
        )
        command = [original / "python", "-W", "ignore", "-c", head + textwrap.dedent(script)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_its_command_line_deploys_lists_and_removes_an_app(original, galileo, tmp_path):
    user, password = galileo.administrator
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login {user} password {password}\n")
    (tmp_path / ".netrc").chmod(0o600)
    environment = {"HOME": str(tmp_path), "galileo_api_url": galileo.web.url, "PATH": "/usr/bin:/bin"}

    def run(*arguments: str | Path) -> str:
        command = [original / "galileo", "app", *map(str, arguments)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Manifest OK: squeezenet" in run("deploy", "--path", APP)
    assert "squeezenet" in run("ls")
    assert run("rm", "squeezenet") == "deleted squeezenet\n"
    assert "squeezenet" not in run("ls")
    assert run("rm", "squeezenet") == "did not delete squeezenet\n"


def test_both_routing_tables_read_each_others_routes(galileo, run_original, three_targets):
    first, second, _ = three_targets
    galileo.manage("shell", "-c", "rtbl.set('shared', ['host1:8080', 'host2:8080'], [1, 2])")
    read = run_original(
        """
        from galileo.routing import RedisRoutingTable
        record = RedisRoutingTable(rds).get_routing('shared')
        print(record.service, record.hosts, [float(weight) for weight in record.weights])
        """
    )
    assert read == "shared ['host1:8080', 'host2:8080'] [1.0, 2.0]\n"
    plan = plan_data(duration=8, interval=8, ticks=[20], routing=routes(first.host))
    (service,) = {workload["service"] for workload in plan["configuration"]["workloads"]}
    experiment_id = galileo.begin(plan)
    galileo.wait_for_status(experiment_id, "RUNNING")
    time.sleep(5)
    run_original(
        f"""
        from galileo.routing import RedisRoutingTable, RoutingRecord
        RedisRoutingTable(rds).set_routing(RoutingRecord({service!r}, [{second.host!r}], [1]))
        """
    )
    assert galileo.wait_for_status(experiment_id, "FINISHED", "FAILED") == "FINISHED"
    by_target = [len(target.ids(experiment_id)) for target in (first, second)]
    assert sum(by_target) == 160
    assert all(count > 20 for count in by_target)
    rows = galileo.query(
        "SELECT value FROM experiments_event WHERE experiment_id = ? AND name = 'routing'", experiment_id
    )
    assert any(second.host in value and "(by redis)" in value for (value,) in rows)


def test_its_telemetry_controller_lists_and_pauses_our_nodes(galileo, run_original):
    said = run_original(
        """
        import time
        from telemc import TelemetryController, TelemetrySubscriber
        controller = TelemetryController(rds)
        print(sorted(controller.get_nodes()))
        print(sorted(info.node for info in controller.get_node_infos()))

        def heard(seconds):
            subscription = rds.pubsub()
            subscription.psubscribe('telem/*')
            nodes, end = set(), time.time() + seconds
            while time.time() < end:
                message = subscription.get_message(ignore_subscribe_messages=True, timeout=0.2)
                if message:
                    nodes.add(message['channel'].split('/')[1])
            return sorted(nodes)

        print(heard(3))
        controller.pause('worker-a')
        time.sleep(1.5)
        print(heard(2.5))
        controller.unpause_all()
        time.sleep(1.5)
        print(heard(2.5))
        """
    )
    both = "['worker-a', 'worker-b']"
    assert said.splitlines() == [both, both, both, "['worker-b']", both]
