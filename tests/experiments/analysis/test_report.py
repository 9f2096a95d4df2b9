"""The report holds the account against the target's own log, and says so in words and in its exit status."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from experiments.analysis import report, summary
from experiments.analysis.target_log import compare
from experiments.ingest.ingest import ingest
from experiments.models import Experiment, NodeInfo, Recording, TelemetrySample, Trace
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import IDS_VERSION, id_form, request_id
from tests.support.batches import NS, START_NS, START_S, make_experiment, rows_of, run_payloads, shards_of

pytestmark = [pytest.mark.costly, pytest.mark.django_db, pytest.mark.usefixtures("broker")]


@pytest.fixture
def experiment() -> Experiment:
    """A finished one of 20 requests, two of which timed out."""
    experiment = make_experiment(shards=2, workers=("pi1", "pi2"), status="FINISHED")
    for shard in shards_of(experiment):
        rows = rows_of(shard, lambda n, r: replace(r, outcome=Outcome.TIMEOUT, done_ns=-1, status=0) if n == 4 else r)
        for batch in run_payloads(shard, rows):
            ingest(batch)
    return experiment


def lines_of(experiment: Experiment, *, offset_s: float = 0.0, header: str = "X-Request-Id") -> list[str]:
    """What an honest target would have logged of all that was sent."""
    rows = (
        Trace.objects.filter(experiment=experiment, sent_ns__isnull=False).select_related("shard").order_by("sent_ns")
    )
    form = id_form(header, IDS_VERSION)
    return [
        f"{row.sent_ns / NS + offset_s:.6f} {request_id(row.shard.group_id, row.client, row.sequence, form)} GET /"
        for row in rows
    ]


@pytest.fixture
def write(tmp_path):
    def write(*logs: list[str]) -> list[Path]:
        paths = []
        for number, lines in enumerate(logs):
            path = tmp_path / f"target{number}.log"
            path.write_text("".join(f"{line}\n" for line in lines))
            paths.append(path)
        return paths

    return write


def test_log_of_trace_contexts_is_compared_with_the_rows(experiment, write):
    workload = experiment.groups.get().workload
    workload.spec["request_id_header"] = "traceparent"
    workload.save()
    lines = lines_of(experiment, header="traceparent")
    assert report.build(experiment, write(lines))["sound"]
    assert not report.build(experiment, write(lines_of(experiment)))["sound"]
    found = compare(experiment, write(lines[1:]))
    assert (found["missing"], found["unknown"], found["duplicate"]) == (1, 0, 0)
    assert found["examples"]["missing"] == [lines[0].split()[1]]


def test_complete_log_confirms_the_account(experiment, write):
    lines = lines_of(experiment)
    built = report.build(experiment, write(lines[:7], ["1700000000.0 - GET /health", *lines[7:]]))
    assert (built["problems"], built["sound"]) == ([], True)
    target = built["target"]
    assert (target["sent"], target["logged"], target["lines"]) == (20, 20, 20)
    assert (target["missing"], target["unknown"], target["duplicate"]) == (0, 0, 0)
    assert [(file["lines"], file["requests"]) for file in target["files"]] == [(7, 7), (14, 13)]
    assert target["intervals"] == [10, 10]


def test_request_without_response_may_be_absent_from_the_log(experiment, write):
    timed_out = Trace.objects.filter(outcome=Outcome.TIMEOUT).select_related("shard")
    ids = {request_id(row.shard.group_id, row.client, row.sequence) for row in timed_out}
    built = report.build(experiment, write([line for line in lines_of(experiment) if line.split()[1] not in ids]))
    assert built["sound"]
    assert (built["target"]["logged"], built["target"]["errors_not_logged"]) == (18, 2)


def test_completed_request_absent_from_the_log_is_reported(experiment, write):
    lines = lines_of(experiment)
    gone = lines.pop(0).split()[1]
    built = report.build(experiment, write(lines))
    assert built["problems"] == [f"completed requests that are in no log: 1, such as {gone}"]


def test_logged_request_that_was_not_sent_is_reported(experiment, write):
    stranger = request_id(f"{experiment.id}.0", 1, 777)
    built = report.build(experiment, write([*lines_of(experiment), f"1700000000.5 {stranger} GET /"]))
    assert built["problems"] == [f"logged requests that were not sent according to the rows: 1, such as {stranger}"]


def test_request_received_twice_is_reported(experiment, write):
    lines = lines_of(experiment)
    twice = lines[3].split()[1]
    built = report.build(experiment, write(lines[:10], [lines[3], *lines[10:]]))
    assert built["problems"] == [f"requests that were logged more than once: 1, such as {twice}"]


def test_requests_of_redirects_belong_to_their_arrivals(experiment, write):
    lines = lines_of(experiment)
    name = lines[0].split()[1]
    hops = [f"1700000000 {name}-1 GET /next", f"1700000000 {name}-2 GET /last"]
    built = report.build(experiment, write(lines, hops))
    assert (built["sound"], built["target"]["logged"]) == (True, 20)
    twice = report.build(experiment, write(lines, [*hops, hops[1]]))
    assert twice["problems"] == [f"requests that were logged more than once: 1, such as {name}"]
    stranger = report.build(experiment, write(lines, [request_id(f"{experiment.id}.0", 0, 999) + "-1"]))
    assert stranger["target"]["unknown"] == 1


def test_same_log_given_twice_counts_once(experiment, write):
    (path,) = write(lines_of(experiment))
    assert report.build(experiment, [path, path.parent / "." / path.name])["sound"]


def test_times_of_a_log_are_corrected_by_the_clock_difference(experiment, write):
    lines = lines_of(experiment, offset_s=-300)
    target = report.build(experiment, write(lines))["target"]
    assert target["files"][0]["clock_difference_s"] == pytest.approx(-300, abs=1e-3)
    assert target["intervals"] == [10, 10]


def test_log_without_times_has_no_interval_counts(experiment, write):
    target = report.build(experiment, write([line.split(" ", 1)[1] for line in lines_of(experiment)]))["target"]
    assert (target["logged"], target["intervals"], target["files"][0]["clock_difference_s"]) == (20, None, None)


def test_empty_log_lacks_every_completed_request(experiment, write):
    built = report.build(experiment, write([]))
    assert (built["target"]["missing"], built["sound"]) == (18, False)


def test_missing_rows_are_a_problem():
    experiment = make_experiment(status="FINISHED")
    first, _, final = run_payloads(shards_of(experiment)[0])
    ingest(first)
    ingest(final)
    built = report.build(experiment, [])
    assert built["problems"] == ["20 arrivals were planned, but 13 have a row: 7 are missing, 0 were lost"]


def test_stored_summary_is_used_unless_fresh(experiment):
    stored = summary.summarise(experiment)
    stored["account"]["planned"] = 999
    experiment.summary = stored
    assert report.build(experiment, [])["summary"]["account"]["planned"] == 999
    assert report.build(experiment, [], fresh=True)["summary"]["account"]["planned"] == 20


def test_text_has_every_section_within_100_columns(experiment, write):
    text = report.render(report.build(experiment, write(lines_of(experiment))))
    assert max(map(len, text.splitlines())) <= 100
    assert not any(line != line.rstrip() for line in text.splitlines())
    for words in (
        "VERDICT VALID",
        "The account closes.",
        "planned                                    20",
        "timeout",
        "ids in the target's log",
        "achieved req/s",
        "response time",
        "p99.9",
        "10.0.0.1:80",
        "largest deviation",
        "clock ms",
        "others  stolen",
        "no figure is above its limit",
        "lateness p99",
        "20 ms",
        "200 ms",
        "INVALID: the experiment did not finish",
    ):
        assert words in text


def add_telemetry(experiment, node, metric, values, *, subsystem="", first_s=0):
    """One value a second from `first_s` on after the start."""
    for second, value in enumerate(values, first_s):
        TelemetrySample.objects.create(
            experiment=experiment,
            node=node,
            metric=metric,
            subsystem=subsystem,
            timestamp_ns=START_NS + second * NS,
            value=value,
        )


def test_report_has_the_load_of_each_node(experiment):
    Experiment.objects.update(ended_at=experiment.started_at + timedelta(seconds=2))
    experiment.refresh_from_db()
    add_telemetry(experiment, "pi2", "cpu", [90, 10, 20, 60, 99], first_s=-1)  # the first and the last are outside
    add_telemetry(experiment, "pi2", "ram", [1024 * 100, 1024 * 300])
    add_telemetry(experiment, "pi1", "cpu", [50, 1e300, -1])  # two are what no node can have
    add_telemetry(experiment, "pi1", "cpu", [100], subsystem="0")
    NodeInfo.objects.create(experiment=experiment, node="pi2", info={"ram": str(1024 * 1024 * 4)})
    NodeInfo.objects.create(experiment=experiment, node="pi1", info={"ram": "much"})
    built = report.build(experiment, [])
    pi1, pi2 = built["telemetry"]["nodes"]

    assert (pi2["samples"], pi2["cpu_mean_share"], pi2["cpu_max_share"]) == (3, pytest.approx(0.3), 0.6)
    assert (pi2["ram_mean_bytes"], pi2["ram_max_bytes"], pi2["ram_bytes"]) == (200 << 20, 300 << 20, 4 << 30)
    assert (pi1["node"], pi1["samples"], pi1["cpu_max_share"]) == ("pi1", 1, 0.5)
    assert (pi1["ram_mean_bytes"], pi1["ram_bytes"]) == (None, None)
    text = report.render(built)
    assert max(map(len, text.splitlines())) <= 100
    assert "  pi2         3    30.0 %   60.0 %           200          300   4,096" in text
    assert "no room" not in text


def test_report_names_the_quota_of_a_throttled_worker(experiment):
    Experiment.objects.update(ended_at=experiment.started_at + timedelta(seconds=2))
    experiment.refresh_from_db()
    add_telemetry(experiment, "pi2", "cpu_quota", [0.5, 0.2, 0.2, 0.3, 0.1], first_s=-1)  # two are outside
    add_telemetry(experiment, "pi2", "cpu_throttled", [0, 100, 70, 85, 0], first_s=-1)
    add_telemetry(experiment, "pi1", "cpu_quota", [2.0])  # nothing is known of its throttling
    built = report.build(experiment, [], fresh=True)
    pi1, pi2 = built["summary"]["workers"]
    assert (pi1["quota_cores"], pi1["throttled_share"]) == (None, None)
    assert (pi2["quota_cores"], pi2["throttled_share"]) == (0.2, pytest.approx(0.85))
    (reason,) = built["summary"]["verdict"]["reasons"]
    assert reason["sentence"].startswith("throttled by a CPU quota: worker pi2, whose quota is 0.2 cores, 85 %")
    text = report.render(built)
    assert "pi2: CPU quota of 0.2 cores, used up in 85.0 % of its periods" in text
    assert "pi1: CPU quota" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_summary_of_an_earlier_version_has_a_report(experiment):
    stored = summary.summarise(experiment)
    for worker in stored["workers"]:
        del worker["quota_cores"], worker["throttled_share"]
    experiment.summary = stored
    assert "CPU quota of" not in report.render(report.build(experiment, []))


def test_report_counts_malformed_and_dropped_telemetry(experiment):
    assert "Telemetry" not in report.render(report.build(experiment, []))
    example = "telem/pi/cpu: value: must be a number, got 'much'"
    Recording.objects.create(
        experiment=experiment, began_at=experiment.started_at, unparsable=2, example=example, dropped=1234
    )
    text = report.render(report.build(experiment, []))
    assert f"malformed messages: 2, such as {example}" in text
    assert "because the buffer was full: 1,234" in text


def test_report_of_a_bad_run_names_every_problem(write):
    experiment = make_experiment(status="FAILED")
    Experiment.objects.update(reason="worker pi1 was lost " * 20, name="n" * 191)
    experiment.refresh_from_db()
    text = report.render(report.build(experiment, write([request_id(f"{experiment.id}.0", 0, 0)])))
    assert max(map(len, text.splitlines())) <= 100
    assert "THE ACCOUNT DOES NOT CLOSE" in text
    assert "VERDICT INVALID" in text


def test_experiment_that_never_started_has_a_report():
    experiment = make_experiment(status="CANCELLED")
    experiment.groups.all().delete()
    Experiment.objects.update(started_at=None, start_broker_ns=None)
    experiment.refresh_from_db()
    assert "VERDICT INVALID" in report.render(report.build(experiment, []))


def run(*arguments: object) -> str:
    out = StringIO()
    call_command("report", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_command_prints_text_or_json(experiment, write):
    (path,) = write(lines_of(experiment))
    assert f"Experiment {experiment.id}" in run(experiment.id, "--target-log", path)
    built = json.loads(run(experiment.id, "--target-log", path, "--json"))
    assert (built["id"], built["sound"], built["summary"]["verdict"]["status"]) == (experiment.id, True, "VALID")


def test_command_prints_the_report_and_fails_on_contradictions(experiment, write):
    (path,) = write(lines_of(experiment)[1:])
    out = StringIO()
    with pytest.raises(CommandError, match="does not close: completed requests that are in no log: 1") as error:
        call_command("report", experiment.id, "--target-log", str(path), stdout=out)
    assert error.value.returncode == 1
    assert "THE ACCOUNT DOES NOT CLOSE" in out.getvalue()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [("RUNNING", "has not ended: it is RUNNING"), ("FINALIZING", "has not ended: it is FINALIZING")],
)
def test_command_refuses_an_experiment_that_has_not_ended(status, sentence):
    with pytest.raises(CommandError, match=sentence):
        run(make_experiment(status=status).id)


def test_command_names_what_does_not_exist(experiment, tmp_path):
    with pytest.raises(CommandError, match="experiment '202001010000-none' does not exist"):
        run("202001010000-none")
    with pytest.raises(CommandError, match=r"nowhere\.log: No such file"):
        run(experiment.id, "--target-log", tmp_path / "nowhere.log")


def test_first_logged_second_is_that_of_the_plan(experiment):
    assert lines_of(experiment)[0].startswith(str(START_S))
