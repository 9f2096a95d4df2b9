"""A target's log names the requests that it received, in whatever form it is written."""

from __future__ import annotations

import math

import pytest

from experiments.analysis.target_log.logged_ids import TargetLogError, key_of, line_pattern, read_log
from loadgen.protocol.request_ids import IdForm, id_begin, id_end, request_id
from routing.errors import Code

GROUP = "202611220101-ab1c.0"
OTHER = "202611220101-ab1c.1"


def read(tmp_path, text, *groups, form=IdForm.DOTTED):
    path = tmp_path / "target.log"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_log(path, dict.fromkeys(groups or (GROUP,), form))


@pytest.mark.parametrize(
    ("line", "time_s"),
    [
        (f"1700000000.123456 {GROUP}.3.14 POST /predictions/squeezenet", 1700000000.123456),
        (f"1700000000 {GROUP}.3.14 GET /", 1700000000),
        (f'10.0.0.1 - - [22/Nov/2026:01:01:01 +0000] "GET / HTTP/1.1" 200 12 "{GROUP}.3.14"', math.nan),
        (f'{{"id":"{GROUP}.3.14","status":200}}', math.nan),
        (f"id={GROUP}.3.14;", math.nan),
        (f"{GROUP}.3.14", math.nan),
        (f"received {GROUP}.3.14.", math.nan),
        (f"1700000000.5 {GROUP}.3.14 answered {GROUP}.3.14", 1700000000.5),
    ],
)
def test_id_is_found_at_any_position_once_per_line(tmp_path, line, time_s):
    log = read(tmp_path, line + "\n")
    assert list(log.groups[GROUP].keys) == [key_of(3, 14)]
    assert log.groups[GROUP].times_s[0] == pytest.approx(time_s, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    "line",
    [
        "1700000000.1 - GET /",
        f"1700000000.1 {GROUP}.3 GET /",
        f"x{GROUP}.3.14",
        f"{GROUP}.03.14",
        f"{GROUP}.3.014",
        f"{GROUP}.3.14.015",
        f"{GROUP}.3.14.0",
        f"{GROUP}.3.14.15.16",
        f"{GROUP}.3.14a",
        f"{GROUP}.3.14-b",
        f"{GROUP}0.3.14",
        "202611220101-ab1d.0.3.14",
        "202611220101xab1c.0.3.14",
        "",
    ],
)
def test_similar_text_is_not_an_id(tmp_path, line):
    log = read(tmp_path, line + "\n")
    assert (log.lines, log.requests) == (1, 0)


def test_requests_after_a_redirect_are_kept_apart(tmp_path):
    log = read(tmp_path, f"1700000000 {GROUP}.3.14\n1700000001 {GROUP}.3.14.1\nid={GROUP}.3.14.30;\n{GROUP}.3.14.1\n")
    ids = log.groups[GROUP]
    keys, times_s = ids.first_requests()
    assert (log.requests, keys.tolist(), times_s.tolist()) == (1, [key_of(3, 14)], [1700000000])
    assert ids.requests().tolist() == [[key_of(3, 14), number] for number in (0, 1, 30, 1)]


def test_groups_and_lines_are_counted_separately(tmp_path):
    log = read(tmp_path, f"{GROUP}.0.0\n{OTHER}.0.0\n{OTHER}.0.1\nhello\n{OTHER}.0.1", GROUP, OTHER)
    assert (log.lines, log.chosen, log.requests) == (5, 5, 3)
    assert list(log.groups[OTHER].keys) == [0, 1, 1]


def test_only_chosen_lines_count(tmp_path):
    path = tmp_path / "target.log"
    path.write_text(f"{GROUP}.0.0 Started\n{GROUP}.0.0 Completed\n{GROUP}.0.1 Started\n")
    log = read_log(path, {GROUP: IdForm.DOTTED}, line_pattern("Start"))
    assert (log.lines, log.chosen, list(log.groups[GROUP].keys)) == (3, 2, [0, 1])


def test_pattern_may_have_characters_beyond_ascii(tmp_path):
    path = tmp_path / "target.log"
    path.write_text(f"{GROUP}.0.0 fertig für heute\n{GROUP}.0.1 fertig\n", encoding="utf-8")
    assert read_log(path, {GROUP: IdForm.DOTTED}, line_pattern("f.+ für")).chosen == 1


@pytest.mark.parametrize("text", ["(", "[a", "*", "\ud800"])
def test_invalid_pattern_is_refused_with_its_option(text):
    with pytest.raises(TargetLogError) as caught:
        line_pattern(text)
    assert [(error.path, error.code) for error in caught.value.errors] == [("--target-log-match", Code.FORMAT)]


def test_lines_that_differ_in_digits_alone_have_one_shape(tmp_path):
    lines = [f"{GROUP}.0.0 done in 3ms", f"{GROUP}.0.0 done in 14ms", f"{GROUP}.0.0 begun"]
    shapes = list(read(tmp_path, "\n".join(lines)).groups[GROUP].shapes)
    assert shapes[0] == shapes[1] != shapes[2]


def test_bytes_of_any_encoding_are_read(tmp_path):
    log = read(tmp_path, b"\xff\xfe\x00 " + f"{GROUP}.0.0".encode() + b" \xe9\n")
    assert log.requests == 1


def test_number_above_32_bits_is_an_unknown_id(tmp_path):
    log = read(tmp_path, f"{GROUP}.99999999999999999999.5")
    assert list(log.groups[GROUP].keys) == [0xFFFFFFFF << 32 | 5]


def test_experiment_without_groups_finds_nothing(tmp_path):
    path = tmp_path / "target.log"
    path.write_text("1700000000.1 a GET /\n")
    assert read_log(path, {}).requests == 0


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(TargetLogError, match=r"nowhere\.log: No such file"):
        read_log(tmp_path / "nowhere.log", {GROUP: IdForm.DOTTED})


DASHED = request_id(GROUP, 3, 14)


@pytest.mark.parametrize(
    "line",
    [
        f"1700000000.5 {DASHED} GET /",
        f'"GET / HTTP/1.1" 200 12 "{DASHED}"',
        f"[{DASHED}] Started",
        f"1700000000.5 {DASHED} answered {DASHED}",
        f"received {DASHED}.",
    ],
)
def test_dashed_id_is_found_at_any_position_once_per_line(tmp_path, line):
    log = read(tmp_path, line + "\n", form=IdForm.DASHED)
    assert list(log.groups[GROUP].keys) == [key_of(3, 14)]


@pytest.mark.parametrize(
    "line",
    [
        f"x{DASHED}",
        f"-{DASHED}",
        f"{DASHED}0"[:-3],
        f"{DASHED}a",
        f"{DASHED}-a",
        f"{DASHED}-0",
        f"{DASHED}-123",
        f"{DASHED}.5",
        DASHED.replace("-0000000014", "-00000000014"),
        DASHED.rpartition("-")[0],
        DASHED.upper(),
        f"{GROUP}.3.14",
        request_id(OTHER, 3, 14),
    ],
)
def test_similar_text_is_not_a_dashed_id(tmp_path, line):
    log = read(tmp_path, line + "\n", form=IdForm.DASHED)
    assert (log.lines, log.requests) == (1, 0)


def test_end_of_a_dashed_id_counts_the_requests_of_its_arrival(tmp_path):
    log = read(tmp_path, f"{DASHED}\n{DASHED}-1\n{DASHED}-30\n", form=IdForm.DASHED)
    assert log.groups[GROUP].requests().tolist() == [[key_of(3, 14), hop] for hop in (0, 1, 30)]


@pytest.mark.parametrize("group", ["a.0", "demo.12", f"{'e' * 24}.3", "g"])
def test_dashed_ids_are_those_of_their_group_whatever_its_name_is(tmp_path, group):
    names = ["a.0", "demo.12", f"{'e' * 24}.3", "g"]
    text = "".join(f"{request_id(name, 2**32 - 1, 10**9 + number)}\n" for number, name in enumerate(names))
    log = read(tmp_path, text, *names, form=IdForm.DASHED)
    assert list(log.groups[group].keys) == [key_of(2**32 - 1, 10**9 + names.index(group))]


TRACED = request_id(GROUP, 3, 14, IdForm.TRACEPARENT)


def hop_of(number):
    return f"{id_begin(IdForm.TRACEPARENT, GROUP)}000000030000000e-0000000e{id_end(IdForm.TRACEPARENT, number)}"


@pytest.mark.parametrize(
    "line",
    [
        f"1700000000.5 {TRACED} GET /",
        f'"GET / HTTP/1.1" 200 12 "{TRACED}"',
        f'{{"traceparent":"{TRACED}"}}',
        f"1700000000.5 {TRACED} answered {TRACED}",
        TRACED.removesuffix("01") + "00",
    ],
)
def test_trace_context_is_found_at_any_position_once_per_line(tmp_path, line):
    log = read(tmp_path, line + "\n", form=IdForm.TRACEPARENT)
    assert list(log.groups[GROUP].keys) == [key_of(3, 14)]


@pytest.mark.parametrize(
    "line",
    [
        TRACED.split("-")[1],  # the trace id alone
        TRACED.replace("-0000000e", "-b7ad6b71"),  # a request of the target's own, in the same trace
        TRACED.replace("00000001-01", "00000000-01"),
        TRACED.upper(),
        TRACED[1:],
        f"0{TRACED}",
        f"{TRACED}0",
        request_id(OTHER, 3, 14, IdForm.TRACEPARENT),
        request_id(GROUP, 3, 14),
    ],
)
def test_similar_text_is_not_a_trace_context(tmp_path, line):
    log = read(tmp_path, line + "\n", form=IdForm.TRACEPARENT)
    assert (log.lines, log.requests) == (1, 0)


def test_span_id_gives_the_redirect_of_a_trace_context(tmp_path):
    log = read(tmp_path, "".join(f"{hop_of(number)}\n" for number in (0, 1, 30)), form=IdForm.TRACEPARENT)
    assert log.groups[GROUP].requests().tolist() == [[key_of(3, 14), hop] for hop in (0, 1, 30)]


def test_one_log_may_hold_ids_of_each_form(tmp_path):
    path = tmp_path / "target.log"
    path.write_text(f"{request_id(GROUP, 1, 2)}\n{request_id(OTHER, 3, 4, IdForm.TRACEPARENT)}\nolder.0.5.6\n")
    log = read_log(path, {GROUP: IdForm.DASHED, OTHER: IdForm.TRACEPARENT, "older.0": IdForm.DOTTED})
    assert list(log.groups[GROUP].keys) == [key_of(1, 2)]
    assert list(log.groups[OTHER].keys) == [key_of(3, 4)]
    assert list(log.groups["older.0"].keys) == [key_of(5, 6)]
