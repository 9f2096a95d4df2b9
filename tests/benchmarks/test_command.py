"""The command: which lines it takes, and what it does with one that cannot be measured."""

from contextlib import contextmanager

import pytest

from benchmarks.__main__ import main, measured
from benchmarks.bench import Bench, Line
from benchmarks.conditions import Conditions
from benchmarks.cores import Cores
from benchmarks.figures import Figure, Sample, at_least
from benchmarks.lines import LINES
from benchmarks.needed import PACKAGES, Missing, need


@pytest.fixture
def said():
    return []


@pytest.fixture
def bench(said):
    return Bench(Cores(0, 1), quick=True, say=said.append)


def look():
    return Conditions(0.1, 0.2)


def line(*values):
    """Measures these values, one a round; an exception is raised instead."""

    @contextmanager
    def measuring(bench):
        left = iter(values)

        def measure():
            value = next(left)
            if isinstance(value, Exception):
                raise value
            return Sample([value])

        yield measure

    return Line("made-up", (Figure("speed", "×", at_least(1)),), measuring)


def test_a_line_is_measured_once_a_round(bench):
    result = measured(line(2.0, 3.0), bench, 2, look)
    assert (result.values(0), result.error, result.fails) == ([2.0, 3.0], "", False)
    assert result.before == [Conditions(0.1, 0.2)] * 2


@pytest.mark.parametrize(
    "error", [Missing("there is no wrk"), AssertionError("waited 60 s for nginx"), OSError("full")]
)
def test_an_unmeasured_line_has_a_reason(bench, said, error):
    result = measured(line(2.0, error), bench, 3, look)
    assert (result.error, result.fails) == (str(error), True)
    assert said[-1] == f"made-up: not measured: {error}"


def test_a_programming_error_ends_the_run(bench):
    with pytest.raises(KeyError):
        measured(line(KeyError("typo")), bench, 1, look)


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setitem(PACKAGES, "no-such-program", "no-such-package")
    with pytest.raises(Missing, match="no-such-program was not found: apt-get install no-such-package"):
        need("no-such-program")


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["--only", "closed,nonsense"], "--only: must be lines of closed, open, lateness"),
        (["--rounds", "0"], "--rounds: must be at least 1"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_measured(arguments, refusal, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert refusal in capsys.readouterr().err


def test_each_line_has_a_name_of_its_own():
    assert len({one.name for one in LINES}) == len(LINES)
