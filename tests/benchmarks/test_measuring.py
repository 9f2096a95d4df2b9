"""What the lines measure with, held against the project as it is: target, plans, batches, messages, the engine."""

import os
import subprocess
import sys
import urllib.request

import pytest

from benchmarks.ingest_work import payloads
from benchmarks.lines.broker_bytes import weigh
from benchmarks.lines.closed import workload
from benchmarks.lines.open_model import poisson
from benchmarks.rows import ROW_TYPE
from benchmarks.stack import NotMeasured, plan
from benchmarks.target import Target
from experiments.ingest.ingest import ingest
from experiments.models import SecondStats, Trace
from experiments.plans import parse
from galileo_site.environment import PROJECT_ROOT
from loadgen.agent.ingest_link import RedisIngest
from loadgen.device.spool import BatchName
from loadgen.protocol.keys import ingest_queue
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.trace_batch import ROW_BYTES
from loadgen.shard.sealer import SEAL_AT_ROWS
from tests.support.needed import need
from tests.support.worker_process import settings_for


@pytest.fixture
def target(tmp_path):
    need("/usr/sbin/nginx", "nginx-light")
    (folder := tmp_path / "nginx").mkdir()
    with Target(folder) as running:
        yield running


def test_the_target_does_not_count_requests_for_its_count(target):
    before = target.served()
    for host in target.hosts:
        for _ in range(3):
            assert urllib.request.urlopen(f"http://{host}/path").read() == b"ok\n"
    assert target.served() - before == 9
    assert target.served() - before == 9


def test_the_lines_plans_are_valid(target):
    plans = [poisson(target, 6, 12_345.6), workload(target, 4, tls=False), workload(target, 4, tls=True)]
    plans.append(plan([target.host], 4, model="closed", clients=[50], client="body"))
    assert [parse(one).workloads[0].shards_per_worker for one in plans] == [1] * 4


def test_a_record_is_as_long_as_a_batchs():
    assert ROW_TYPE.itemsize == ROW_BYTES


@pytest.mark.django_db
def test_ingest_takes_the_synthetic_batches_row_by_row(broker):
    for payload in payloads(2):
        ingest(payload)
    traces = Trace.objects.order_by("id")
    assert traces.count() == 2 * SEAL_AT_ROWS
    assert set(traces.values_list("outcome", flat=True)) == {Outcome.COMPLETED}
    assert all(row.intended_ns <= row.dispatched_ns <= row.sent_ns < row.done_ns for row in traces)
    arrivals = set(traces.values_list("client", "sequence"))
    assert len(arrivals) == 2 * SEAL_AT_ROWS
    assert sum(SecondStats.objects.values_list("completed", flat=True)) == 2 * SEAL_AT_ROWS


@pytest.mark.django_db
def test_a_message_is_weighed_as_redis_holds_it(redis_server, broker, tmp_path):
    queue = ingest_queue(1, 1)
    batches = payloads(2)
    link = RedisIngest(settings_for(redis_server, "w", tmp_path), redis_server.client())
    for number, batch in enumerate(batches):
        link.send(queue, BatchName("g", 1, 1, number), batch)
    link.close()
    sample = weigh(broker.lrange(queue, 0, -1))
    assert sample.values == [pytest.approx(sum(map(len, broker.lrange(queue, 0, -1))) / (2 * SEAL_AT_ROWS))]
    assert sample.background["batch alone, B"] == pytest.approx(sum(map(len, batches)) / (2 * SEAL_AT_ROWS))
    assert (sample.background["traces, rows"], sample.background["messages"]) == (2 * SEAL_AT_ROWS, 2)


def test_an_empty_queue_is_not_measured():
    with pytest.raises(NotMeasured, match="no trace was in the queue"):
        weigh([])


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_engine_cost_is_per_request_served_by_the_target():
    need("/usr/sbin/nginx", "nginx-light")
    command = [sys.executable, "-m", "benchmarks.engine_cost", "--rate=500", "--seconds=0.5", "--profile", "--top=3"]
    out = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    completed = out.split("completed ")[1].split(")")[0]
    assert f"nginx served {completed}\n" in out
    assert "µs per request" in out
    assert "tottime" in out
