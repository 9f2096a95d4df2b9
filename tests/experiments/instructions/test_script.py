"""Scripts: accepted commands, and the errors of all wrong lines at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.instructions.script import Close, Mark, Rate, Sleep, Spawn, parse
from routing.errors import Code, InvalidInput
from tests.support.examples import examples

S = 1_000_000_000


def errors_of(script: str) -> list[tuple[str, Code]]:
    with pytest.raises(InvalidInput) as caught:
        parse(script)
    return [(error.path, error.code) for error in caught.value.errors]


def test_commands_of_the_original_are_read() -> None:
    script = "spawn exphost squeezenet 1\nsleep 2\nrps exphost squeezenet 1\nsleep 5\nclose exphost squeezenet"
    assert parse(script) == [
        Spawn(1, "exphost", "squeezenet", 1),
        Sleep(2, 2 * S),
        Rate(3, "exphost", "squeezenet", 1.0),
        Sleep(4, 5 * S),
        Close(5, "exphost", "squeezenet"),
    ]


def test_blank_lines_comments_and_crlf_are_ignored() -> None:
    script = "\n# warm up\r\n   sleep   2   # seconds\r\n\n\tsleep .5\n"
    assert parse(script) == [Sleep(3, 2 * S), Sleep(5, S // 2)]


def test_lines_after_exit_are_ignored() -> None:
    assert parse("sleep 1\nexit\nnonsense") == [Sleep(1, S)]


def test_spawn_takes_an_app_and_parameters_and_defaults_to_one() -> None:
    script = """spawn pi web\nspawn pi web 3 images '{"size": "small"}'\nrps pi web 2 images\nclose pi web images"""
    assert parse(script) == [
        Spawn(1, "pi", "web"),
        Spawn(2, "pi", "web", 3, "images", {"size": "small"}),
        Rate(3, "pi", "web", 2.0, "images"),
        Close(4, "pi", "web", "images"),
    ]


def test_event_takes_a_name_and_an_optional_value() -> None:
    script = "event start\nevent phase two of three\nevent 'phase two' done"
    assert parse(script) == [Mark(1, "start"), Mark(2, "phase", "two of three"), Mark(3, "phase two", "done")]


WRONG_LINES = [
    ("spwan pi web 1", Code.UNKNOWN),
    ("workers", Code.UNKNOWN),
    ("SLEEP 2", Code.UNKNOWN),
    ("spawn pi", Code.FORMAT),
    ("spawn pi web 1 app {} more", Code.FORMAT),
    ("rps pi web", Code.FORMAT),
    ("sleep", Code.FORMAT),
    ("sleep 1 2", Code.FORMAT),
    ("close pi", Code.FORMAT),
    ("event", Code.FORMAT),
    ("sleep 2;", Code.TYPE),
    ("sleep -1", Code.TYPE),
    ("sleep nan", Code.TYPE),
    ("sleep 1e400", Code.TYPE),
    ("sleep 1_000", Code.TYPE),
    ("sleep ２", Code.TYPE),
    ("sleep 0.0001", Code.RANGE),
    ("sleep 604801", Code.RANGE),
    ("rps pi web fast", Code.TYPE),
    ("rps pi web 1000001", Code.RANGE),
    ("spawn pi web 0", Code.RANGE),
    ("spawn pi web 1.5", Code.RANGE),
    ("spawn pi web 100001", Code.RANGE),
    ("spawn pi web " + "9" * 5000, Code.RANGE),
    ("spawn pi a/b 1", Code.FORMAT),
    ("spawn '' web 1", Code.REQUIRED),
    ("spawn pi web 1 a/b", Code.FORMAT),
    ("spawn pi web 1 app [1]", Code.TYPE),
    ("spawn pi web 1 app {", Code.FORMAT),
    ("event ''", Code.REQUIRED),
    ("event " + "x" * 192, Code.RANGE),
    ("event x " + "y" * 4001, Code.RANGE),
    ("event it's", Code.FORMAT),
]


@pytest.mark.parametrize(("line", "code"), WRONG_LINES, ids=range(len(WRONG_LINES)))
def test_wrong_line_is_refused_with_its_number(line: str, code: Code) -> None:
    assert errors_of(f"sleep 1\n{line}\nsleep 2") == [("line 2", code)]


def test_messages_name_the_value_and_the_remedy() -> None:
    found = []
    for line, _ in WRONG_LINES:
        with pytest.raises(InvalidInput) as caught:
            parse(line)
        found.append(f"{line:.60}\n    {caught.value.errors[0].message}\n")
    assert "".join(found) == (Path(__file__).parent / "script_messages.txt").read_text()


def test_errors_of_all_lines_are_reported_at_once() -> None:
    assert [path for path, _ in errors_of("jump\nsleep x\nsleep 1\nspawn '' a/b 0")] == ["line 1", "line 2"] + [
        "line 4"
    ] * 3


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["spawn", "rps", "sleep", "close", "event", "exit", "pi", "web", "1", "-1", "{}", "'", "#"])
            | st.text(max_size=5),
            max_size=6,
        ).map(" ".join),
        max_size=5,
    ).map("\n".join)
)
def test_any_text_is_parsed_or_refused_with_errors(text: str) -> None:
    try:
        parse(text)
    except InvalidInput as invalid:
        assert all(error.path.startswith("line ") and error.message for error in invalid.errors)
