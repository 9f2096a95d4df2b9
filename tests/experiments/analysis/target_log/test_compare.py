"""Logs of several lines per request, several logs of one request, and logs whose ids the target changed."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from experiments.analysis import report
from experiments.analysis.target_log import TargetLogError, compare, line_pattern
from experiments.ingest.ingest import ingest
from experiments.models import Experiment, Shard
from loadgen.protocol.outcomes import Outcome
from loadgen.protocol.request_ids import IdForm, id_form, request_id
from routing.errors import Code
from tests.support.batches import NS, START_NS, make_experiment, rows_of, run_payloads, shards_of
from tests.support.logging_targets import envoy_id, heroku_id, phoenix_id, preserving_envoy_id, rails_id

pytestmark = [pytest.mark.costly, pytest.mark.django_db, pytest.mark.usefixtures("broker")]

TRACED = {"request_id_header": "traceparent"}


def finished(*schedules: list[list[float]], **spec: object) -> Experiment:
    """An experiment of 20 requests per service, the fifth of which timed out."""
    experiment = make_experiment(*schedules, status="FINISHED", **spec)
    for shard in shards_of(experiment):
        rows = rows_of(shard, lambda n, r: replace(r, outcome=Outcome.TIMEOUT, done_ns=-1, status=0) if n == 4 else r)
        for batch in run_payloads(shard, rows):
            ingest(batch)
    return experiment


@pytest.fixture
def experiment() -> Experiment:
    return finished()


@pytest.fixture
def older() -> Experiment:
    """One that was stored when ids had dots."""
    return finished(ids_version=1)


def form_of(shard: Shard) -> IdForm:
    spec = shard.group.workload.spec
    return id_form(spec["request_id_header"], spec["ids_version"])


def ids_of(experiment: Experiment) -> list[str]:
    """The ids as they were sent, in the order of their requests."""
    return [
        request_id(shard.group_id, row.client, row.sequence, form_of(shard))
        for shard in shards_of(experiment)
        for row in rows_of(shard)
    ]


@pytest.fixture
def write(tmp_path):
    def write(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


def run(experiment: Experiment, *arguments: object) -> str:
    """What the command prints; it raises CommandError where the exit status is not 0."""
    out = StringIO()
    call_command("report", experiment.id, *map(str, arguments), stdout=out)
    return out.getvalue()


def started_and_completed(ids: list[str]) -> list[str]:
    return [f"[{name}] {text}" for name in ids for text in ('Started GET "/"', "Completed 200 OK in 3ms")]


def test_two_lines_of_each_request_close_the_account(experiment, write):
    text = run(experiment, "--target-log", write("two.log", *started_and_completed(ids_of(experiment))))
    assert "The account closes." in text
    assert re.search(r"ids in the target's log +20\n +completed, but not in the log +0\n", text)
    assert re.search(r"in the log more than once +0\n", text)
    assert "each id of service0 is in exactly 2 lines, which count as one request" in text


def test_logs_of_proxy_and_application_close_the_account(experiment, write):
    ids = ids_of(experiment)
    nginx = write("nginx.log", *(f'127.0.0.1 - - "GET / HTTP/1.1" 200 2 {name}' for name in ids))
    app = write("app.log", *(f"app handled {name}" for name in ids))
    assert "The account closes." in run(experiment, "--target-log", nginx, "--target-log", app)
    found = compare(experiment, [nginx, app])
    assert (found["logged"], found["lines"], found["duplicate"]) == (20, 40, 0)
    assert [(file["lines"], file["requests"]) for file in found["files"]] == [(20, 20), (20, 20)]
    assert found["several_lines"] == [{"service": "service0", "lines": 2, "all": True, "logs": 1}]


@pytest.mark.parametrize("header", ["X-Request-Id", "traceparent"])
def test_redirects_and_several_lines_close_the_account(write, header):
    experiment = finished(request_id_header=header)
    ids = ids_of(experiment)
    second = [name.replace("00000001-01", "00000002-01") if header == "traceparent" else f"{name}-1" for name in ids]
    found = compare(experiment, [write("two.log", *started_and_completed([*ids, *second]))])
    assert (found["contradictions"], found["logged"], found["several_lines"][0]["lines"]) == ([], 20, 2)


def test_request_received_twice_is_found_among_several_lines(experiment, write):
    ids = ids_of(experiment)
    lines = started_and_completed([*ids, ids[7]])
    found = compare(experiment, [write("two.log", *lines)])
    assert (found["duplicate"], found["examples"]["duplicate"]) == (1, [ids[7]])
    assert found["several_lines"] == [{"service": "service0", "lines": 2, "all": False, "logs": 1}]
    text = report.render(report.build(experiment, [write("two.log", *lines)]))
    assert "most ids of service0 are in 2 lines" in text
    assert "--target-log-match" in found["contradictions"][0]


def test_target_that_received_everything_twice_is_reported(experiment, write):
    lines = [f'127.0.0.1 - - "GET / HTTP/1.1" 200 2 {name}' for name in ids_of(experiment)]
    found = compare(experiment, [write("a.log", *lines, *lines)])
    assert (found["logged"], found["duplicate"], found["several_lines"]) == (20, 20, [])


def test_two_nginx_in_a_row_close_the_account(experiment, write):
    """The ingress and the one behind it, with the same format."""
    lines = [f"1764000000.{n:03} {name} GET /" for n, name in enumerate(ids_of(experiment))]
    logs = [write("ingress.log", *lines), write("inner.log", *(line.replace("64000", "64001") for line in lines))]
    text = " ".join(run(experiment, "--target-log", logs[0], "--target-log", logs[1]).split())
    assert "The account closes." in text
    assert "in the log more than once 0" in text
    assert (
        "each id of service0 is in exactly 2 lines, which count as one request (--target-log-match); 2 logs have the "
        "same lines, as those of servers in a row, or of instances each of which received every request"
    ) in text


def test_request_that_the_second_nginx_received_twice_is_found(experiment, write):
    ids = ids_of(experiment)
    lines = [f'127.0.0.1 - - "GET / HTTP/1.1" 200 2 {name}' for name in ids]
    found = compare(experiment, [write("ingress.log", *lines), write("inner.log", *lines, lines[7])])
    assert (found["duplicate"], found["examples"]["duplicate"]) == (1, [ids[7]])
    assert found["several_lines"] == [{"service": "service0", "lines": 2, "all": False, "logs": 2}]


def test_requests_without_their_last_line_are_not_missing(experiment, write):
    lines = [line for number, line in enumerate(started_and_completed(ids_of(experiment))) if number not in (9, 21)]
    found = compare(experiment, [write("two.log", *lines)])
    assert (found["contradictions"], found["logged"], found["lines"]) == ([], 20, 38)


def test_chosen_lines_are_requests_each(experiment, write):
    ids = ids_of(experiment)
    path = write("two.log", *started_and_completed(ids), f"[{ids[2]}] Started again")
    found = compare(experiment, [path], line_pattern(r"\] Started GET"))
    assert (found["contradictions"], found["lines"], found["several_lines"]) == ([], 20, [])
    assert compare(experiment, [path], line_pattern("Started"))["examples"]["duplicate"] == [ids[2]]
    assert "The account closes." in run(experiment, "--target-log", path, "--target-log-match", "Started GET")


def test_choice_that_no_line_has_is_refused(experiment, write):
    with pytest.raises(TargetLogError) as caught:
        compare(experiment, [write("two.log", *started_and_completed(ids_of(experiment)))], line_pattern("Begun"))
    assert [(error.path, error.code) for error in caught.value.errors] == [("--target-log-match", Code.CONFLICT)]


@pytest.mark.parametrize(
    "arguments", [("--target-log-match", "x"), ("--target-log", "/dev/null", "--target-log-match", "(")]
)
def test_command_names_the_option_that_is_wrong(experiment, arguments):
    with pytest.raises(CommandError, match=r"^--target-log-match: "):
        run(experiment, *arguments)


def test_each_request_counts_once_in_its_interval(experiment, write):
    lines = []
    for shard in shards_of(experiment):
        for row in rows_of(shard):
            at_s = (START_NS + row.sent_ns) / NS
            name = request_id(shard.group_id, row.client, row.sequence)
            lines += [f"{at_s:.6f} {name} Started", f"{at_s + 0.95:.6f} {name} Completed"]
    assert compare(experiment, [write("two.log", *lines)])["intervals"] == [10, 10]


def test_ids_without_dots_are_recognised_with_advice(older, write):
    lines = [f'[{rails_id(name)}] Started GET "/"' for name in ids_of(older)]
    path = write("rails.log", *lines)
    found = compare(older, [path])
    (change,) = found["changed_ids"]
    assert (change["change"], change["lines"], change["service"]) == ("respelled", 20, "service0")
    assert (found["missing"], found["not_compared"], found["contradictions"]) == (0, 20, [change["sentence"]])
    with pytest.raises(CommandError, match="request_id_header") as error:
        run(older, "--target-log", path)
    assert error.value.returncode == 1


@pytest.mark.parametrize("log_id", [rails_id, phoenix_id, heroku_id, preserving_envoy_id])
def test_ids_of_new_experiments_pass_through_targets(experiment, write, log_id):
    path = write("target.log", *map(log_id, ids_of(experiment)))
    assert "The account closes." in run(experiment, "--target-log", path)


def test_report_counts_changed_ids_as_not_compared(experiment, write):
    path = write("own.log", *(f'{uuid.UUID(int=number)} "GET /" 200' for number in range(20)))
    text = report.render(report.build(experiment, [path]))
    assert re.search(r"not compared: the log lacks their ids +20\n", text)
    assert re.search(r"completed, but not in the log +0\n", text)
    assert "THE ACCOUNT DOES NOT CLOSE" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("spell", "change"),
    [
        (envoy_id, "replaced"),
        (lambda name: "GET /", "absent"),
        (lambda name: re.sub("[.-]", "_", name), "respelled"),
        (lambda name: re.match(r"(.*)[.-]", name)[1], "cut"),
        (lambda name: re.sub("^[0-9a-z]+-[0-9a-z]+", "209901010000-zzzz", name), "foreign"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_each_kind_of_change_is_named(write, spell, change, version):
    experiment = finished(ids_version=version)
    found = compare(experiment, [write("target.log", *map(spell, ids_of(experiment)))])
    assert [each["change"] for each in found["changed_ids"]] == [change]
    assert (found["not_compared"], found["missing"]) == (20, 0)


def test_trace_ids_alone_are_recognised(write):
    experiment = finished(**TRACED)
    found = compare(experiment, [write("target.log", *(name.split("-")[1] for name in ids_of(experiment)))])
    assert [(each["change"], each["lines"]) for each in found["changed_ids"]] == [("continued", 20)]


def test_one_instance_that_changes_ids_explains_what_is_missing(older, write):
    ids = ids_of(older)
    logs = [write("nginx.log", *ids[:10]), write("rails.log", *map(rails_id, ids[10:]))]
    found = compare(older, logs)
    assert (found["logged"], found["missing"], found["not_compared"]) == (10, 10, 0)
    assert [each["lines"] for each in found["changed_ids"]] == [10]
    assert len(found["contradictions"]) == 2


def test_application_behind_a_proxy_may_change_ids(older, write):
    ids = ids_of(older)
    logs = [write("nginx.log", *ids), write("rails.log", *map(rails_id, ids))]
    assert compare(older, logs)["contradictions"] == []


def test_services_that_log_ids_are_compared_beside_others(write):
    experiment = finished([[1.0, 10.0], [1.0, 10.0]], [[1.0, 10.0], [1.0, 10.0]], ids_version=1)
    ids = ids_of(experiment)
    found = compare(experiment, [write("target.log", *ids[:20], *map(rails_id, ids[20:]))])
    assert (found["logged"], found["missing"], found["not_compared"]) == (20, 0, 20)
    assert [each["service"] for each in found["changed_ids"]] == ["service1"]


def test_few_lost_requests_are_no_change_of_ids(experiment, write):
    found = compare(experiment, [write("target.log", *ids_of(experiment)[1:], f"{uuid.uuid4()} GET /health")])
    assert (found["missing"], found["changed_ids"]) == (1, [])
