"""A worker in a real control group whose quota is too small for its load: the verdict names the quota."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from experiments.models import TelemetrySample, Worker
from tests.e2e.test_load import routes
from tests.e2e.test_telemetry import start_recorder
from tests.support.cgroups import cpu_group
from tests.support.galileo import Galileo
from tests.support.http_target import HttpTarget
from tests.support.plans import plan_data
from tests.support.waiting import wait_for

CORES = 0.1


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Galileo]:
    """Galileo with a recorder, and with a worker that joins the group when it has started."""
    directory = tmp_path_factory.mktemp("limited")
    with cpu_group(CORES) as group, Galileo(directory, {"worker-a": "A"}) as running:
        start_recorder(running)
        join(group, running.children["worker-a"].process.pid)
        yield running


def join(group: Path, pid: int) -> None:
    """Puts a process and all of its children into the group; later children are born there."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        (group / "cgroup.procs").write_text(str(process.pid))


def test_verdict_names_a_quota_that_was_used_up(limited: Galileo, target: HttpTarget) -> None:
    wait_for(lambda: limited.read(Worker.objects.values_list("cores", flat=True)) == [1], "the core within the quota")
    plan = plan_data(duration=6, interval=6, ticks=[3000], clients_per_host=4, routing=routes(target.host))
    experiment_id = limited.begin(plan)
    limited.wait_for_status(experiment_id, "FINISHED", "FAILED")
    samples = TelemetrySample.objects.filter(experiment_id=experiment_id, metric="cpu_quota")
    assert set(limited.read(samples.values_list("node", "value"))) == {("worker-a", CORES)}
    report = limited.report(experiment_id, check=False)["summary"]
    (worker,) = report["workers"]
    assert (worker["cores"], worker["quota_cores"]) == (1, CORES)
    assert worker["throttled_share"] > 0.01
    sentences = [reason["sentence"] for reason in report["verdict"]["reasons"]]
    assert any(
        sentence.startswith(f"throttled by a CPU quota: worker worker-a, whose quota is {CORES} cores")
        for sentence in sentences
    )
    assert not any("another process had its core" in sentence for sentence in sentences)
