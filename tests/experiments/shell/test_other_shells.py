"""An interactive experiment that another shell has left: the next shell names it, and ends it by its id."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from experiments.models import Event
from experiments.models import Experiment as Row
from experiments.services import interactive
from experiments.shell.errors import NoExperiment
from experiments.shell.experiment import Experiment
from tests.support import batches
from tests.support.fleet import Fleet

pytestmark = pytest.mark.django_db


@pytest.fixture
def left(fleet: Fleet) -> Row:
    """The running experiment of a shell that has crashed."""
    return interactive.start("left", "ann", {})


@pytest.fixture
def exp(fleet: Fleet) -> Iterator[Experiment]:
    made = Experiment()
    yield made
    made._end()


def test_start_names_the_experiment_and_how_to_end_it(left: Row, exp: Experiment) -> None:
    with pytest.raises(interactive.OtherExperimentRuns) as refused:
        exp.start("next")
    assert str(refused.value).startswith(f"experiment {left} is RUNNING: it was started by ann at ")
    assert f"UTC; exp.stop('{left.id}') ends it" in str(refused.value)
    assert exp.id is None


@pytest.mark.parametrize("call", ["stop", "event"])
def test_other_calls_name_the_experiment_that_runs(left: Row, exp: Experiment, call: str) -> None:
    with pytest.raises(NoExperiment) as refused:
        exp.stop() if call == "stop" else exp.event("mark")
    assert str(refused.value).startswith(f"no experiment was started in this shell, but experiment {left} is RUNNING")
    assert f"exp.stop('{left.id}') ends it" in str(refused.value)


def test_experiment_of_another_shell_is_ended_by_its_id(left: Row, exp: Experiment) -> None:
    exp.stop(left.id)
    left.refresh_from_db()
    assert (left.status, left.final_status) == ("FINALIZING", "FINISHED")
    assert "from another shell" in left.reason
    assert Event.objects.filter(experiment=left, name="stopped").count() == 1
    with pytest.raises(interactive.NotRunning, match="is FINALIZING"):
        exp.stop(left.id)
    with pytest.raises(interactive.OtherExperimentRuns, match="FINALIZING: it ends in a moment"):
        exp.start("next")


def test_own_experiment_is_ended_by_its_id_too(exp: Experiment) -> None:
    own = exp.start("own")
    exp.stop(own)
    assert (exp.id, Row.objects.get().final_status, Row.objects.get().reason) == (None, "FINISHED", "")


@pytest.mark.parametrize("unknown", ["202611220000-none", 3, ""])
def test_unknown_id_is_refused_with_the_one_that_runs(left: Row, exp: Experiment, unknown: object) -> None:
    with pytest.raises(NoExperiment, match=f"does not exist, but experiment {left.id} left is RUNNING"):
        exp.stop(unknown)  # type: ignore[arg-type]


def test_experiment_with_a_plan_is_not_stopped_by_the_shell(exp: Experiment) -> None:
    planned = batches.make_experiment()
    with pytest.raises(interactive.OtherExperimentRuns, match=f"`manage.py cancel {planned.id}`"):
        exp.start("next")
    with pytest.raises(interactive.NotRunning):
        exp.stop(planned.id)
    planned.refresh_from_db()
    assert planned.status == "RUNNING"


def test_without_any_experiment_the_remedy_is_to_start_one(exp: Experiment) -> None:
    with pytest.raises(NoExperiment, match=r"^no experiment was started in this shell; call exp.start\(\)$"):
        exp.stop()
