"""A log without the ids of an experiment is explained: by what its target made of them, and what to set."""

from __future__ import annotations

import pytest

from experiments.analysis.target_log.changed_ids import Change, ChangedIds, find_changes
from experiments.analysis.target_log.logged_ids import line_pattern
from loadgen.protocol.request_ids import IdForm, id_begin, id_end, id_form, request_id

GROUP = "202611300151-xb02.0"
OTHER = "202611300151-xb02.1"
SENT = f"{GROUP}.3.14"
DASHED = request_id(GROUP, 3, 14)
TRACED = request_id(GROUP, 3, 14, IdForm.TRACEPARENT)
TRACE_ID = TRACED.split("-")[1]
BEGIN = id_begin(IdForm.TRACEPARENT, GROUP)
HOP = f"{BEGIN}000000030000000e-0000000e{id_end(IdForm.TRACEPARENT, 2)}"
ELSEWHERE = request_id("202611300153-xb02.0", 0, 1)
UUID = "fae40858-188c-46df-97a6-71bcee86ee23"


@pytest.fixture
def explained(tmp_path):
    """Writes a log of these lines, and explains what it has instead of the group's ids."""

    def find(*lines: str, form: IdForm = IdForm.DOTTED, group: str = GROUP) -> ChangedIds:
        header = "traceparent" if form == IdForm.TRACEPARENT else "X-Request-Id"
        path = tmp_path / "target.log"
        path.write_text("".join(f"{line}\n" for line in lines))
        return find_changes([path], {group: header}, {group: form}, {group: request_id(group, 3, 14, form)})[group]

    return find


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('[202611300151-xb020314] Started GET "/"', "202611300151-xb020314"),  # Ruby on Rails
        ('[202611300151-xb0203141] Started GET "/"', "202611300151-xb0203141"),  # after a redirect
        ("id=202611300151xb020314;", "202611300151xb020314"),
        ("202611300151-xb02_0_3_14 GET /", "202611300151-xb02_0_3_14"),
        ("202611300151-xb02-0-3-14-1 GET /", "202611300151-xb02-0-3-14-1"),
        ("202611300151-xb02%2E0%2E3%2E14 GET /", "202611300151-xb02%2E0%2E3%2E14"),
        (f"{SENT.upper()} GET /", SENT.upper()),
    ],
)
def test_dotted_id_in_another_spelling_is_recognised(explained, line, found):
    change = explained("GET /health", line, line)
    assert (change.change, change.lines, change.found, change.sent) == (Change.RESPELLED, 2, found, SENT)


@pytest.mark.parametrize(
    "line",
    [
        TRACED.upper(),
        TRACED.replace("-", ""),
        TRACED.replace("-", "_"),
        TRACED.removesuffix("-01"),
        TRACED.removeprefix("00-"),
        HOP.replace("-", ""),
    ],
)
def test_trace_context_in_another_spelling_is_recognised(explained, line):
    change = explained(f"id: {line} GET /", form=IdForm.TRACEPARENT)
    assert (change.change, change.lines, change.found) == (Change.RESPELLED, 1, line)


@pytest.mark.parametrize(
    "line",
    [TRACE_ID, f"00-{TRACE_ID}-b7ad6b7169203331-01", f"trace={TRACE_ID} span=b7ad6b7169203331", TRACE_ID.upper()],
)
def test_trace_with_spans_of_the_target_is_continued(explained, line):
    change = explained(line, form=IdForm.TRACEPARENT)
    assert (change.change, change.found) == (Change.CONTINUED, line if line == TRACE_ID.upper() else TRACE_ID)
    assert "X-Galileo-Id" in change.sentence("shop")


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("[202611300151-xb] GET /", IdForm.DOTTED),  # the 16 characters that some Rails applications log
        (f"{GROUP} GET /", IdForm.DOTTED),
        (f"{GROUP}.3 GET /", IdForm.DOTTED),
        (f"{DASHED[:18]} GET /", IdForm.DASHED),
        (f"{DASHED[:25]} GET /", IdForm.DASHED),
        (f"{DASHED[:36]} GET /", IdForm.DASHED),
        (f"{TRACED[:20]} GET /", IdForm.TRACEPARENT),
        (f"{TRACED[:30]} GET /", IdForm.TRACEPARENT),
    ],
)
def test_beginning_of_an_id_is_recognised(explained, line, form):
    change = explained(line, form=form)
    assert (change.change, change.found) == (Change.CUT, line.strip("[").partition("]")[0].partition(" ")[0])
    assert "log the whole header" in change.sentence("shop")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f'{UUID} "GET /" 200', UUID),  # Envoy, Istio
        ("GET / 200 f9ed4675f1c53513c61a3b3b4e25b4c0", "f9ed4675f1c53513c61a3b3b4e25b4c0"),  # nginx, Heroku
        ("12:00:01 request_id=GAz7nP0kW1mQxYAAAAAB [info] GET /", "GAz7nP0kW1mQxYAAAAAB"),  # Phoenix
        ('{"requestId": "01JDXYZABCDEFGHJKMNPQRSTVW"}', "01JDXYZABCDEFGHJKMNPQRSTVW"),
    ],
)
def test_ids_of_the_targets_own_are_named(explained, line, found):
    change = explained(line, "GET /health")
    assert (change.change, change.lines, change.found) == (Change.REPLACED, 1, found)
    assert "preserve_external_request_id" in change.sentence("shop")


@pytest.mark.parametrize(
    "line", [DASHED.replace("-", ""), DASHED.replace("-", "_"), DASHED.upper(), DASHED.replace("-", "%2D")]
)
def test_dashed_id_in_another_spelling_is_recognised(explained, line):
    change = explained(f"id: {line} GET /", form=IdForm.DASHED)
    assert (change.change, change.lines, change.found, change.sent) == (Change.RESPELLED, 1, line, DASHED)
    assert "Rails" not in change.sentence("shop")


def test_ids_of_another_experiment_are_no_ids_of_the_target(explained):
    change = explained("202611300151-zzzz.0.0.1 GET /", "202611300152-xb02.0.0.1.2 GET /", ELSEWHERE, UUID)
    assert (change.change, change.lines, change.found) == (Change.FOREIGN, 3, "202611300151-zzzz.0.0.1")


@pytest.mark.parametrize(
    "lines",
    [
        ("1700000000.1 - GET /health",),
        ("202611300151 GET /", "202611300151-y GET /"),  # a time, another experiment
        ("x202611300151-xb020314", "202611300151-xb020314x"),
        (),
    ],
)
def test_log_without_any_ids_names_the_header_to_log(explained, lines):
    change = explained(*lines)
    assert (change.change, change.lines, change.found) == (Change.ABSENT, len(lines), "")
    assert "$http_x_request_id" in change.sentence("shop")


@pytest.mark.parametrize("line", ["e0314 GET /", "3e0314", "e.0"])
def test_short_name_without_its_marks_is_not_an_id(explained, line):
    assert explained(line, group="e.0").change == Change.ABSENT
    assert explained("e_0_3_14", group="e.0").change == Change.RESPELLED


def test_id_as_it_was_sent_is_not_a_change(explained):
    assert explained(SENT, f"{SENT}.1").change == Change.ABSENT


def test_groups_of_an_experiment_are_told_apart(tmp_path):
    path = tmp_path / "target.log"
    path.write_text("202611300151-xb02000\n" + "202611300151-xb02100\n" * 3 + f"{UUID}\n")
    headers = {GROUP: "X-Request-Id", OTHER: "X-Request-Id"}
    forms = dict.fromkeys(headers, IdForm.DOTTED)
    found = find_changes([path], headers, forms, {group: request_id(group, 0, 0, forms[group]) for group in headers})
    assert {group: (change.change, change.lines) for group, change in found.items()} == {
        GROUP: (Change.RESPELLED, 1),
        OTHER: (Change.RESPELLED, 3),
    }


def test_lines_that_are_not_chosen_do_not_count(tmp_path):
    path = tmp_path / "target.log"
    path.write_text("[202611300151-xb02000] Started\n[202611300151-xb02000] Completed\n")
    found = find_changes(
        [path], {GROUP: "X-Request-Id"}, {GROUP: IdForm.DOTTED}, {GROUP: SENT}, line_pattern("Started")
    )
    assert found[GROUP].lines == 1


@pytest.mark.parametrize("change", [Change.RESPELLED, Change.REPLACED])
@pytest.mark.parametrize("header", ["X-Request-Id", "traceparent"])
@pytest.mark.parametrize("version", [1, 2])
def test_advice_names_a_header_that_was_not_tried(change, header, version):
    sentence = ChangedIds(change, 20, "found", "sent", header, id_form(header, version)).sentence("shop")
    assert "request_id_header of the plan" in sentence
    assert ("to traceparent" in sentence) == (header == "X-Request-Id")
