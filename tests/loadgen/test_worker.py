"""A real worker: registration, labels, whole shards, stops, drains."""

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import redis

from loadgen.broker.subscription import Subscription
from loadgen.device.running_shards import marked_shards
from loadgen.device.spool import Spool
from loadgen.protocol.codec import to_wire
from loadgen.protocol.enums import DesiredState
from loadgen.protocol.keys import label_queue, lease_key, worker_key
from loadgen.protocol.messages import GroupDocument
from loadgen.protocol.topics import parse_sample
from tests.support.http_target import HttpTarget
from tests.support.redis_server import RedisServer
from tests.support.shards import (
    IngestByHand,
    broker_ns,
    document_of,
    order_of,
    put_document,
    put_route,
    send_order,
    state_of,
    status_of,
)
from tests.support.worker_process import ROOT, WorkerProcess, wait_until
from tests.support.workers import register

pytestmark = pytest.mark.slow


@pytest.fixture
def worker_a(redis_server: RedisServer, store: redis.Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(redis_server, "wa", tmp_path, zone="A", api_token="t0p") as worker:
        yield worker


@pytest.fixture
def ingest(redis_server: RedisServer, store: redis.Redis) -> Iterator[IngestByHand]:
    with IngestByHand(redis_server, store) as by_hand:
        yield by_hand


def order_ready(server: RedisServer, store: redis.Redis, document: GroupDocument) -> None:
    """Orders the document's group as shard 1 from worker wa, and waits until it is ready."""
    put_document(store, document)
    send_order(server, label_queue("worker_name", "wa"), order_of(1, document.group_id))
    wait_until(lambda: state_of(store, 1) == "ready")


def run_document(store: redis.Redis, document, ahead_s: float = 1.0) -> None:
    """Lets a held group run."""
    start = broker_ns(store, ahead_s)
    put_document(store, replace(document, version=document.version + 1, state="run", start_broker_ns=start))


def started_with(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A worker whose settings keep it from running."""
    command = [sys.executable, "-m", "loadgen.worker"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30)


def nice_values(agent: psutil.Process) -> list[int]:
    """Of each thread of an agent."""
    return [os.getpriority(os.PRIO_PROCESS, thread.id) for thread in agent.threads()]


def test_a_worker_registers_with_its_labels_and_its_machine(worker_a: WorkerProcess) -> None:
    info = worker_a.info()

    assert info is not None
    assert info.labels == {"worker_name": "wa", "zone": "A"}
    assert (info.slots, info.status) == (2, "ready")
    assert info.cores >= 1
    assert info.memory_bytes > 1 << 20
    assert info.pid == worker_a.process.pid
    assert {"python", "celery", "redis"} <= set(info.versions)
    assert info.started_broker_ns < info.heartbeat_broker_ns
    assert info.clock.uncertainty_ns > 0


def test_a_labels_queue_is_read_only_by_workers_with_that_label(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess, ingest: IngestByHand, tmp_path: Path
) -> None:
    with WorkerProcess(redis_server, "wb", tmp_path, zone="B"):
        for shard_id in (1, 2, 3):
            put_document(store, document_of(f"g{shard_id}", state=DesiredState.STOP))
            send_order(redis_server, label_queue("zone", "A"), order_of(shard_id, f"g{shard_id}"))
        send_order(redis_server, label_queue("zone", "B"), order_of(4, "g3"))

        wait_until(lambda: all(state_of(store, shard_id) == "stopped" for shard_id in (1, 2, 3, 4)))
        assert [status_of(store, shard_id).worker for shard_id in (1, 2, 3, 4)] == ["wa", "wa", "wa", "wb"]
        wait_until(lambda: ingest.take() is None, what="the end of the batches")


def test_a_shard_runs_on_time_and_its_rows_match_the_target(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess, ingest: IngestByHand, target: HttpTarget
) -> None:
    put_route(store, dict.fromkeys(target.hosts, 1.0))
    document = document_of("whole", rate_rps=200.0, duration_s=2.0)
    order_ready(redis_server, store, document)
    status = status_of(store, 1)
    assert status.clock is not None
    assert status.descriptor_limit >= 256
    run_document(store, document)
    final = ingest.take_until_final()

    assert (final.counters.planned, final.counters.rows, final.counters.sent) == (400, 400, 400)
    assert final.reason == ""
    assert len(ingest.rows) == 400
    assert sorted(ingest.rows.sent_ids("whole")) == sorted(target.ids("whole"))
    assert [header.number for header in ingest.rows.headers] == list(range(final.number + 1))
    firsts = [header.first_row for header in ingest.rows.headers]
    assert firsts == [sum(header.rows for header in ingest.rows.headers[:at]) for at in range(len(firsts))]
    assert {header.epoch_broker_ns for header in ingest.rows.headers if header.rows} == {final.epoch_broker_ns}
    assert final.gauges.cpu_ns > 0
    wait_until(lambda: state_of(store, 1) == "finished")
    wait_until(lambda: not Spool(worker_a.spool_dir, 1).scan(), what="the deletion of acknowledged batches")
    wait_until(lambda: not marked_shards(worker_a.spool_dir), what="the removal of the mark")


def test_a_stop_ends_a_running_shard_and_its_account_closes(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess, ingest: IngestByHand, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("stopped", rate_rps=100.0, duration_s=60.0)
    order_ready(redis_server, store, document)
    run_document(store, document, ahead_s=0.2)
    wait_until(lambda: state_of(store, 1) == "running")
    while not len(ingest.rows):
        ingest.take()

    put_document(store, replace(document, version=3, state=DesiredState.STOP))
    final = ingest.take_until_final()

    assert final.reason == "stopped"
    assert final.counters.planned == final.counters.rows == len(ingest.rows) == 6000
    assert final.counters.cut > 0
    assert sorted(ingest.rows.sent_ids("stopped")) == sorted(target.ids("stopped"))
    wait_until(lambda: state_of(store, 1) == "stopped")


def test_sigterm_drains_the_worker_and_its_batches_arrive(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess, ingest: IngestByHand, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("drained", rate_rps=100.0, duration_s=60.0)
    order_ready(redis_server, store, document)
    run_document(store, document, ahead_s=0.2)
    wait_until(lambda: state_of(store, 1) == "running")

    worker_a.signal(signal.SIGTERM)
    wait_until(lambda: worker_a.info().status == "draining")
    final = ingest.take_until_final()

    assert final.reason == "worker shut down"
    assert final.counters.planned == final.counters.rows == len(ingest.rows) == 6000
    assert worker_a.wait() == 0, worker_a.log()
    assert worker_a.info() is None
    assert not Spool(worker_a.spool_dir, 1).scan()


def test_a_killed_main_process_drains_the_worker(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess, ingest: IngestByHand, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("orphaned", rate_rps=100.0, duration_s=60.0)
    order_ready(redis_server, store, document)
    run_document(store, document, ahead_s=0.2)
    wait_until(lambda: state_of(store, 1) == "running")
    family = psutil.Process(worker_a.process.pid).children(recursive=True)

    worker_a.signal(signal.SIGKILL)
    final = ingest.take_until_final()

    assert final.reason == "worker shut down"
    assert final.counters.planned == final.counters.rows == len(ingest.rows) == 6000
    ended, left = psutil.wait_procs(family, timeout=20)  # the agent, the shard's process and the idle one
    assert (len(ended), left) == (3, [])
    assert worker_a.info() is None


def test_a_shard_has_priority_over_its_agent(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess, ingest: IngestByHand
) -> None:
    order_ready(redis_server, store, document_of("turns", rate_rps=1.0, duration_s=1.0))

    ours = os.getpriority(os.PRIO_PROCESS, 0)
    background = max(10, ours)
    # Heartbeat and stops are behind nobody.
    assert sorted(nice_values(worker_a.agent())) == [ours, background, background]
    slices = re.findall(r"^se\.slice\s*:\s*(\d+)", Path(f"/proc/{status_of(store, 1).pid}/sched").read_text(), re.M)
    if slices and tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 12):
        assert slices == ["100000"]
    put_document(store, document_of("turns", version=2, state=DesiredState.STOP))
    ingest.take_until_final()


def test_an_agent_that_is_killed_comes_back_and_nothing_is_lost(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess, ingest: IngestByHand, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("agentless", rate_rps=200.0, duration_s=3.0)
    order_ready(redis_server, store, document)
    instance = worker_a.info().instance
    run_document(store, document, ahead_s=0.2)
    wait_until(lambda: Spool(worker_a.spool_dir, 1).scan(), what="the first batches")

    first = worker_a.agent()
    first.kill()
    wait_until(lambda: worker_a.agent() not in (None, first), what="a new agent")
    final = ingest.take_until_final()

    assert final.counters.planned == final.counters.rows == len(ingest.rows) == 600
    assert final.gauges.wall_ns > 2_500_000_000  # the account of the load's 3 s was begun
    assert sorted(ingest.rows.sent_ids("agentless")) == sorted(target.ids("agentless"))
    assert worker_a.info().instance == instance


def test_a_shard_that_does_not_stop_is_killed(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess, ingest: IngestByHand, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("frozen", rate_rps=100.0, duration_s=60.0)
    order_ready(redis_server, store, document)
    run_document(store, document, ahead_s=0.0)
    while not len(ingest.rows):
        ingest.take()
    (shard,) = marked_shards(worker_a.spool_dir)
    psutil.Process(shard.pid).suspend()

    put_document(store, replace(document, version=3, state=DesiredState.STOP, stop_grace_s=0.0))

    wait_until(lambda: not shard.is_alive(), what="the shard's end")
    while ingest.take(1.0):
        pass
    assert ingest.rows.final is None
    # Its slot is free again.
    put_document(store, document_of("next", state=DesiredState.STOP))
    send_order(redis_server, label_queue("worker_name", "wa"), order_of(2, "next"))
    ingest.take_until_final()
    wait_until(lambda: state_of(store, 2) == "stopped")


def test_a_killed_shards_batches_are_forwarded(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess, ingest: IngestByHand, target: HttpTarget
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("killed", rate_rps=100.0, duration_s=60.0)
    order_ready(redis_server, store, document)
    run_document(store, document, ahead_s=0.0)
    wait_until(lambda: len(target.ids("killed")) > 100)
    (shard,) = marked_shards(worker_a.spool_dir)

    os.kill(shard.pid, signal.SIGKILL)

    wait_until(lambda: state_of(store, 1) == "lost")
    assert status_of(store, 1).reason == f"its process {shard.pid} on wa died"
    assert not store.exists(lease_key(1))
    assert marked_shards(worker_a.spool_dir) == []
    while ingest.take(1.0):
        pass
    seen = target.ids("killed")
    assert set(ingest.rows.sent_ids("killed")) <= set(seen)
    assert 0 <= len(seen) - len(ingest.rows.sent_ids("killed")) <= 0.5 * 100  # what was not sealed yet
    assert ingest.rows.final is None


def test_the_load_continues_while_the_broker_is_away(tmp_path: Path, target: HttpTarget) -> None:
    with RedisServer(tmp_path / "redis", append_only=True) as server, server.client() as store:
        put_route(store, {target.host: 1.0})
        document = document_of("away", rate_rps=100.0, duration_s=6.0)
        with WorkerProcess(server, "wa", tmp_path) as worker:
            order_ready(server, store, document)
            run_document(store, document, ahead_s=0.2)
            wait_until(lambda: state_of(store, 1) == "running")

            server.stop()
            wait_until(lambda: len(target.ids("away")) == 600, what="the load's end")
            assert marked_shards(worker.spool_dir)  # it has not told of its end yet
            server.start()

            with IngestByHand(server, store) as ingest:
                final = ingest.take_until_final()
                assert (final.counters.planned, final.counters.sent, len(ingest.rows)) == (600, 600, 600)
                assert final.counters.late == 0
                wait_until(lambda: state_of(store, 1) == "finished")
                assert max(header.number for header in ingest.rows.headers) == final.number  # nothing came after it
                wait_until(lambda: worker.info() is not None, what="the heartbeat")
                # The worker's main process is well: it takes the next shard.
                put_document(store, document_of("after", state=DesiredState.STOP))
                send_order(server, label_queue("worker_name", "wa"), order_of(2, "after"))
                wait_until(lambda: state_of(store, 2) == "stopped", timeout_s=40)
                wait_until(lambda: ingest.take() is None, what="the end of the batches")


def test_an_order_of_an_unknown_version_is_refused(
    redis_server: RedisServer, store: redis.Redis, worker_a: WorkerProcess
) -> None:
    send_order(redis_server, label_queue("worker_name", "wa"), {**to_wire(order_of(1, "g")), "v": 99})

    wait_until(lambda: state_of(store, 1) == "failed")
    assert "version 99 is unknown" in status_of(store, 1).reason


def test_a_second_worker_of_the_same_name_is_refused(
    redis_server: RedisServer, worker_a: WorkerProcess, tmp_path: Path
) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "loadgen.worker"],
        cwd=ROOT,
        env=worker_a.environ,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert second.returncode == 1
    assert second.stderr.startswith("galileo_worker_name: a live worker has the name 'wa' already")
    assert len(second.stderr.splitlines()) == 1
    assert worker_a.info().pid == worker_a.process.pid


def test_a_worker_whose_name_was_taken_drains_and_ends(
    redis_server: RedisServer, store: redis.Redis, ingest: IngestByHand, tmp_path: Path
) -> None:
    put_document(store, document_of("taken", rate_rps=10.0, duration_s=10.0))
    with WorkerProcess(redis_server, "wa", tmp_path) as worker:
        send_order(redis_server, label_queue("worker_name", "wa"), order_of(1, "taken"))
        wait_until(lambda: state_of(store, 1) == "ready")

        register(store, "wa", instance="another", hostname="elsewhere")
        store.persist(worker_key("wa"))  # its owner lives throughout, however long the drain takes on a busy machine

        assert ingest.take_until_final().reason == "worker shut down"
        assert worker.wait() == 1
        assert "a live worker has the name 'wa' already" in worker.log()
        assert worker.info().instance == "another"


def test_a_successor_forwards_the_batches_of_a_killed_worker(
    redis_server: RedisServer, store: redis.Redis, ingest: IngestByHand, target: HttpTarget, tmp_path: Path
) -> None:
    put_route(store, {target.host: 1.0})
    document = document_of("left", rate_rps=100.0, duration_s=60.0)
    with WorkerProcess(redis_server, "wa", tmp_path) as first:
        order_ready(redis_server, store, document)
        run_document(store, document, ahead_s=0.0)
        wait_until(lambda: Spool(first.spool_dir, 1).scan(), what="the first batches")
        first.agent().kill()
        first.signal(signal.SIGKILL)
        first.wait()
        instance = first.info().instance

        with WorkerProcess(redis_server, "wa", tmp_path) as second:
            wait_until(lambda: second.info() is not None and second.info().instance != instance)
            final = ingest.take_until_final()
            assert final.counters.planned == final.counters.rows == len(ingest.rows) == 6000
            wait_until(lambda: not Spool(second.spool_dir, 1).scan())


def test_a_worker_waits_for_its_broker_and_says_so(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    worker = WorkerProcess(server, "early", tmp_path)
    try:
        worker.start(wait=False)
        wait_until(lambda: "waiting for Redis at 127.0.0.1" in worker.log())
        server.start()
        wait_until(worker.info, what="the registration")
    finally:
        worker.stop()
        server.stop()


@pytest.mark.parametrize("signum", [signal.SIGQUIT, signal.SIGINT])
def test_other_signals_drain_the_worker_too(
    redis_server: RedisServer, store: redis.Redis, ingest: IngestByHand, tmp_path: Path, signum: signal.Signals
) -> None:
    put_document(store, document_of("signalled", rate_rps=10.0, duration_s=10.0))
    with WorkerProcess(redis_server, "wa", tmp_path) as worker:
        send_order(redis_server, label_queue("worker_name", "wa"), order_of(1, "signalled"))
        wait_until(lambda: state_of(store, 1) == "ready")

        worker.signal(signum)

        assert ingest.take_until_final().reason == "worker shut down"
        worker.wait()
        assert worker.info() is None


def test_a_wrong_password_is_told_and_not_waited_for(worker_a: WorkerProcess) -> None:
    result = started_with(worker_a.environ | {"galileo_redis_password": "wrong"})

    assert result.returncode == 2
    assert "galileo_redis_password: Redis refuses it" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_worker_also_writes_its_traces_to_a_file_when_told_to(
    redis_server: RedisServer, store: redis.Redis, ingest: IngestByHand, target: HttpTarget, tmp_path: Path
) -> None:
    folder = tmp_path / "traces"
    with WorkerProcess(redis_server, "wa", tmp_path, trace_logging="file", trace_dir=str(folder)) as worker:
        assert set(nice_values(worker.agent())) == {os.getpriority(os.PRIO_PROCESS, 0)}
        put_route(store, dict.fromkeys(target.hosts, 1.0))
        document = document_of("filed", rate_rps=100.0, duration_s=1.0)
        order_ready(redis_server, store, document)
        run_document(store, document)
        ingest.take_until_final()

        with (folder / "traces-wa.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert sorted(line["request_id"] for line in lines) == sorted(ingest.rows.sent_ids("filed"))
        assert {(line["service"], line["outcome"]) for line in lines} == {(document.workload.service, "completed")}


def test_a_folder_for_traces_that_cannot_be_used_is_named(worker_a: WorkerProcess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong = {"galileo_worker_name": "wb", "galileo_trace_logging": "file", "galileo_trace_dir": str(tmp_path / "file")}
    result = started_with(worker_a.environ | wrong)

    assert result.returncode == 2
    assert result.stderr.startswith("galileo_trace_dir: ")
    assert "Traceback" not in result.stderr


def test_wrong_settings_are_named_all_at_once(worker_a: WorkerProcess) -> None:
    wrong = {"galileo_redis_port": "99999", "galileo_slots": "none", "galileo_zone": "a b"}
    result = started_with(worker_a.environ | wrong)

    assert result.returncode == 2
    for name in wrong:
        assert f"{name}: " in result.stderr
    assert "Traceback" not in result.stderr


def test_an_agent_publishes_telemetry_unless_it_is_turned_off(
    redis_server: RedisServer, store: redis.Redis, tmp_path: Path
) -> None:
    with (
        Subscription(store, patterns=["telem/*"]) as heard,
        WorkerProcess(redis_server, "quiet", tmp_path, telemetry_interval_s="0"),
        WorkerProcess(redis_server, "wa", tmp_path, telemetry_interval_s="0.2"),
    ):
        nodes: list[str] = []
        wait_until(lambda: _collect(heard, nodes) >= 40, what="telemetry")
        assert set(nodes) == {"wa"}
        assert store.pubsub_channels("telemcmd/*") == [b"telemcmd/wa"]
    wait_until(lambda: not store.pubsub_channels("telemcmd/*"), what="the end of the agents")


def _collect(heard: Subscription, nodes: list[str]) -> int:
    published = heard.get(0.1)
    if published is not None:
        nodes.append(parse_sample(*published).node)
    return len(nodes)
