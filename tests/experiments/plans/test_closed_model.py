"""The closed model has no planned arrivals: what was started is accounted for, and nothing is held against a plan."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from experiments.analysis import live, report, summary
from experiments.analysis.account import account_of
from experiments.analysis.series import Part, series_of
from experiments.analysis.target_log import TargetLogError
from experiments.ingest.ingest import ingest
from experiments.models import Experiment, Shard
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import request_id
from tests.support.batches import NS, START_NS, Row, make_experiment, row, run_payloads, shards_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("broker")]

STEPS = [[1.0, 2.0], [1.0, 4.0]]


def closed_experiment(**fields: object) -> Experiment:
    return make_experiment(STEPS, model="closed", **{"shards": 2, "workers": ("pi1", "pi2"), **fields})


def rows_of(shard: Shard, each: int) -> list[Row]:
    """So many requests of each of the shard's clients, 100 ms apart."""
    clients = [client for bounds in shard.clients for client in range(*bounds)]
    return [row(client, sequence, sequence * NS // 10) for sequence in range(each) for client in clients]


def deliver(experiment: Experiment, each: int = 5) -> None:
    for shard in shards_of(experiment):
        for batch in run_payloads(shard, rows_of(shard, each)):
            ingest(batch)


def test_started_requests_count_as_planned():
    experiment = closed_experiment(status="FINISHED")
    deliver(experiment)
    account = account_of(experiment)
    assert (account.planned, account.rows, account.completed, account.contradictions()) == (20, 20, 20, [])
    assert (account.lost, account.losses_unknown, account.not_made) == (0, 0, 0)
    assert account.complete


def test_rows_of_a_batch_that_is_not_here_are_missing():
    experiment = closed_experiment(status="FINISHED", shards=1)
    (shard,) = shards_of(experiment)
    first, _, final = run_payloads(shard, rows_of(shard, 6))
    ingest(first)
    ingest(final)
    account = account_of(experiment)
    assert (account.planned, account.rows, account.missing, account.contradictions()) == (24, 16, 8, [])
    assert not account.complete


def test_losses_of_a_lost_closed_shard_are_unknown():
    experiment = closed_experiment(status="FINISHED")
    here, gone = shards_of(experiment)
    for batch in run_payloads(here, rows_of(here, 5)):
        ingest(batch)
    ingest(run_payloads(gone, rows_of(gone, 5))[0])
    Shard.objects.filter(id=gone.id).update(status="LOST")
    account = account_of(experiment)
    assert (account.planned, account.rows, account.lost, account.losses_unknown) == (14, 14, 0, 1)
    assert account.contradictions() == []
    assert not account.complete
    built = report.build(experiment, [])
    assert not built["sound"]
    assert "the number of requests that they had started beyond their rows is unknown" in " ".join(built["problems"])
    assert "shards whose losses are unknown" in report.render(built)


def test_shard_with_totals_has_lost_nothing():
    experiment = closed_experiment(status="FAILED")
    deliver(experiment)
    Shard.objects.update(status="FAILED")
    assert account_of(experiment).losses_unknown == 0


def test_requests_per_client_are_the_planned_number():
    experiment = closed_experiment(status="FINISHED", requests_per_client=5)
    deliver(experiment)
    account = account_of(experiment)
    assert (account.planned, account.not_made, account.complete) == (20, 0, True)
    assert summary.summarise(experiment)["verdict"]["status"] == "VALID"


def test_unmade_requests_per_client_degrade_the_verdict():
    experiment = closed_experiment(status="FINISHED", requests_per_client=7)
    deliver(experiment)
    result = summary.summarise(experiment)
    assert (result["account"]["not_made"], result["account"]["closes"]) == (8, True)
    assert result["verdict"]["status"] == "DEGRADED"
    assert result["verdict"]["reasons"][0]["sentence"].startswith("8 requests of requests_per_client were not made")


def test_more_requests_than_n_of_each_client_contradict():
    experiment = closed_experiment(status="FINISHED", requests_per_client=4)
    deliver(experiment)
    wrong = account_of(experiment).contradictions()
    assert [sentence.partition(" started ")[2] for sentence in wrong] == [
        "10 requests, but requests_per_client allows its clients 8",
        "10 requests, but requests_per_client allows its clients 8",
    ]


def test_the_same_request_from_two_shards_is_found():
    experiment = closed_experiment(status="FINISHED")
    for shard in shards_of(experiment):
        for batch in run_payloads(shard, [replace(each, client=0) for each in rows_of(shard, 1)][:1]):
            ingest(batch)
    assert "2 rows name only 1 different arrivals: some were sent twice" in account_of(experiment).contradictions()


def test_report_marks_times_that_depend_on_completions():
    experiment = closed_experiment(status="FINISHED", think_time="uniform", think_time_parameters=[0.0, 0.2])
    deliver(experiment)
    built = report.build(experiment, [])
    result = built["summary"]
    assert json.loads(json.dumps(result)) == result
    assert result["verdict"] == {"status": "VALID", "reasons": []}
    assert result["total"]["response_times_depend_on_completions"] is True
    assert [part["model"] for part in result["workloads"]] == ["closed"]
    text = " ".join(report.render(built).split())
    assert "Response times depend on completions" in text
    assert "planned (closed model: started) 20" in text
    assert "Clients and rates: service0 (closed model, think time uniform(a=0, b=0.2) s)" in text


def test_open_workload_beside_a_closed_one_keeps_its_label():
    experiment = make_experiment([[2.0, 10.0]], status="FINISHED")
    deliver_open = [batch for shard in shards_of(experiment) for batch in run_payloads(shard)]
    for batch in deliver_open:
        ingest(batch)
    built = report.build(experiment, [])
    assert built["summary"]["total"]["response_times_depend_on_completions"] is False
    assert "depend on completions" not in report.render(built)


def test_intervals_have_clients_in_place_of_planned_arrivals():
    experiment = closed_experiment(status="FINISHED")
    deliver(experiment, each=12)
    (workload,) = summary.summarise(experiment)["intervals"]
    rows = workload["intervals"]
    assert [(row["clients"], row["planned"], row["planned_rps"]) for row in rows] == [(2, None, None), (4, None, None)]
    assert [(row["arrivals"], row["sent"]) for row in rows] == [(40, 40), (8, 8)]
    assert (workload["model"], workload["arrival_process"], workload["think_time"]) == (
        "closed", None, "constant(seconds=0)",
    )  # fmt: skip


def test_progress_and_the_series_have_clients_and_no_plan():
    experiment = closed_experiment()
    deliver(experiment, each=12)
    progress = live.progress(experiment, START_NS + NS * 3 // 2)
    assert (progress.planned, progress.planned_rps, progress.clients, progress.sent) == (None, None, 4, 48)
    ended = live.progress(experiment, START_NS + 9 * NS)
    assert (ended.planned, ended.clients, ended.elapsed_s) == (None, 3, 2.0)
    points = series_of(experiment, Part()).points()
    assert [(point["planned"], point["clients"], point["arrivals"]) for point in points] == [
        (None, 2, 40),
        (None, 4, 8),
    ]


def test_needed_descriptors_follow_the_shards_own_clients():
    experiment = closed_experiment(status="FINISHED", clients=400, max_in_flight=400)
    deliver(experiment, each=1)
    Shard.objects.update(descriptor_limit=264)
    assert summary.summarise(experiment)["verdict"]["status"] == "VALID"
    Shard.objects.update(descriptor_limit=263)
    assert summary.summarise(experiment)["verdict"]["status"] == "DEGRADED"


def test_unsent_closed_requests_count_against_the_generator():
    experiment = closed_experiment(status="FINISHED", shards=1)
    (shard,) = shards_of(experiment)
    rows = rows_of(shard, 5)
    rows[3] = row(rows[3].client, rows[3].sequence, rows[3].intended_ns, Outcome.CONNECT_NO_DESCRIPTOR)
    for batch in run_payloads(shard, rows):
        ingest(batch)
    verdict = summary.summarise(experiment)["verdict"]
    assert verdict["status"] == "INVALID"
    assert "file descriptors" in verdict["reasons"][0]["sentence"]


def test_requests_without_ids_cannot_be_held_against_a_log(tmp_path):
    experiment = make_experiment(status="FINISHED", request_id_header="")
    with pytest.raises(TargetLogError, match="--target-log: needs requests with ids"):
        report.build(experiment, [tmp_path / "target.log"])


def test_workload_without_ids_is_not_compared_with_logs(tmp_path):
    experiment = make_experiment([[1.0, 4.0]], [[1.0, 4.0]], status="FINISHED")
    silent, known = experiment.groups.order_by("id")
    silent.workload.spec["request_id_header"] = ""
    silent.workload.save()
    for shard in shards_of(experiment):
        for batch in run_payloads(shard):
            ingest(batch)
    log = tmp_path / "target.log"
    log.write_text("".join(f"{START_NS / NS} {request_id(known.id, client, 0)} GET /\n" for client in range(4)))
    built = report.build(experiment, [log])
    assert (built["problems"], built["target"]["without_ids"]) == ([], ["service0"])
    assert "not compared, because the requests carry no ids: service0" in report.render(built)
