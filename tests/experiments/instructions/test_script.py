"""The lines of a script: what is accepted, and that everything wrong is named with its line at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.instructions.script import Close, Mark, Rate, Sleep, Spawn, parse
from experiments.plans import PlanInvalid
from tests.support.examples import examples

S = 1_000_000_000


def errors_of(script: str) -> list[tuple[str, str]]:
    with pytest.raises(PlanInvalid) as caught:
        parse(script)
    return [(error.path, error.message) for error in caught.value.errors]


def test_the_words_of_the_original_are_read() -> None:
    script = "spawn exphost squeezenet 1\nsleep 2\nrps exphost squeezenet 1\nsleep 5\nclose exphost squeezenet"
    assert parse(script) == [
        Spawn(1, "exphost", "squeezenet", 1),
        Sleep(2, 2 * S),
        Rate(3, "exphost", "squeezenet", 1.0),
        Sleep(4, 5 * S),
        Close(5, "exphost", "squeezenet"),
    ]


def test_empty_lines_comments_blanks_and_line_ends_of_windows_are_left_out() -> None:
    script = "\n# warm up\r\n   sleep   2   # seconds\r\n\n\tsleep .5\n"
    assert parse(script) == [Sleep(3, 2 * S), Sleep(5, S // 2)]


def test_a_script_ends_with_exit() -> None:
    assert parse("sleep 1\nexit\nnonsense") == [Sleep(1, S)]


def test_a_spawn_may_name_the_app_and_its_parameters_and_leave_out_the_number() -> None:
    script = """spawn pi web\nspawn pi web 3 images '{"size": "small"}'\nrps pi web 2 images\nclose pi web images"""
    assert parse(script) == [
        Spawn(1, "pi", "web"),
        Spawn(2, "pi", "web", 3, "images", {"size": "small"}),
        Rate(3, "pi", "web", 2.0, "images"),
        Close(4, "pi", "web", "images"),
    ]


def test_an_event_has_a_name_and_maybe_a_value_of_several_words() -> None:
    script = "event start\nevent phase two of three\nevent 'phase two' done"
    assert parse(script) == [Mark(1, "start"), Mark(2, "phase", "two of three"), Mark(3, "phase two", "done")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("spwan pi web 1", "unknown word 'spwan'; did you mean spawn?"),
        ("workers", "unknown word 'workers'; known are spawn, rps, sleep, close, event and exit"),
        ("SLEEP 2", "unknown word 'SLEEP'"),
        ("spawn pi", "too few words; write spawn HOST SERVICE NUM"),
        ("spawn pi web 1 app {} more", "too many words; write spawn HOST SERVICE NUM"),
        ("rps pi web", "too few words; write rps HOST SERVICE RATE"),
        ("sleep", "too few words; write sleep SECONDS"),
        ("sleep 1 2", "too many words"),
        ("close pi", "too few words; write close HOST SERVICE"),
        ("event", "too few words; write event NAME [VALUE]"),
        ("sleep 2;", "SECONDS must be a number (a duration), got '2;'"),
        ("sleep -1", "SECONDS must be a number"),
        ("sleep nan", "SECONDS must be a number"),
        ("sleep 1e400", "SECONDS must be a number"),
        ("sleep 1_000", "SECONDS must be a number"),
        ("sleep ２", "SECONDS must be a number"),
        ("sleep 0.0001", "SECONDS must be 0, or from 0.001 to 604,800, got '0.0001'"),
        ("sleep 604801", "SECONDS must be 0, or from 0.001 to 604,800"),
        ("rps pi web fast", "RATE must be a number (requests per second of each client), got 'fast'"),
        ("rps pi web 1000001", "RATE must be at most 1,000,000, got '1000001'"),
        ("spawn pi web 0", "NUM must be a whole number of clients from 1 to 100,000, got '0'"),
        ("spawn pi web 1.5", "NUM must be a whole number"),
        ("spawn pi web 100001", "NUM must be a whole number"),
        ("spawn pi web " + "9" * 5000, "NUM must be a whole number"),
        ("spawn pi a/b 1", "SERVICE must be printable ASCII characters"),
        ("spawn '' web 1", "HOST must not be empty"),
        ("spawn pi web 1 a/b", "CLIENT must be the name of a client app"),
        ("spawn pi web 1 app [1]", "PARAMETERS must be a mapping in JSON, got a list"),
        ("spawn pi web 1 app {", "PARAMETERS must be a mapping in JSON: "),
        ("event ''", "NAME must not be empty"),
        ("event " + "x" * 192, "NAME must have at most 191 characters, got 192"),
        ("event x " + "y" * 4001, "VALUE must have at most 4000 characters, got 4001"),
        ("event it's", 'no closing quotation: "event it\'s"'),
    ],
    ids=range(33),
)
def test_a_bad_line_is_named_with_what_to_write(line: str, message: str) -> None:
    errors = errors_of(f"sleep 1\n{line}\nsleep 2")
    assert [path for path, text in errors if message in text] == ["line 2"], errors


def test_every_bad_line_is_named_at_once() -> None:
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
def test_any_text_is_a_script_or_refused_with_reasons(text: str) -> None:
    try:
        parse(text)
    except PlanInvalid as invalid:
        assert all(error.path.startswith("line ") and error.message for error in invalid.errors)
